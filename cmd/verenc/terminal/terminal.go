// Package terminal shows and reads secrets at the terminal of the process, and nowhere else: what is shown can't be
// redirected into a file, and what is read is not shown.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"
)

// Terminal is the controlling terminal of the process.
type Terminal struct{ file *os.File }

// ErrAborted is returned when somebody presses Ctrl-C or Ctrl-D, or the context ends.
var ErrAborted = errors.New("aborted at the terminal")

// Open opens the terminal.
func Open() (*Terminal, error) {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("secrets are shown and entered at a terminal only, and there is none: %w", err)
	}
	return &Terminal{f}, nil
}

// Close closes the terminal.
func (t *Terminal) Close() error { return t.file.Close() }

// control calls f with the terminal's descriptor. (*os.File).Fd would make reads that a deadline can't end.
func (t *Terminal) control(f func(fd int) error) error {
	conn, err := t.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}

// ReadSecret asks for a line, which is not shown.
func (t *Terminal) ReadSecret(ctx context.Context, prompt string) (line string, err error) {
	var before *term.State
	if err := t.control(func(fd int) (err error) { before, err = term.MakeRaw(fd); return err }); err != nil {
		return "", fmt.Errorf("ask at the terminal: %w", err)
	}
	defer func() {
		err = errors.Join(err, t.control(func(fd int) error { return term.Restore(fd, before) }))
	}()
	stop := context.AfterFunc(ctx, func() { _ = t.file.SetReadDeadline(time.Unix(1, 0)) }) // it only ends sooner
	defer stop()
	line, err = term.NewTerminal(t.file, "").ReadPassword(prompt)
	if err != nil {
		return "", ErrAborted
	}
	return line, nil
}

// clearScreen clears the screen and what has scrolled off it (ECMA-48 ED; 3 is xterm's).
const clearScreen = "\x1b[H\x1b[2J\x1b[3J"

// Show shows a text until Enter is pressed, and then clears the screen.
func (t *Terminal) Show(ctx context.Context, text, prompt string) error {
	if _, err := t.file.WriteString(clearScreen + text + "\n\n"); err != nil {
		return fmt.Errorf("write to the terminal: %w", err)
	}
	_, err := t.ReadSecret(ctx, prompt)
	_, failed := t.file.WriteString(clearScreen)
	return errors.Join(err, failed)
}

// Tell writes a line.
func (t *Terminal) Tell(text string) error {
	_, err := t.file.WriteString(text + "\n")
	return err
}
