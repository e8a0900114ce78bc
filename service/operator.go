package service

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
)

// Operator is who runs a command, as the operating system has it. A Service that has one is a command's: what it changes is
// recorded as the operator's.
type Operator struct {
	Name   string // of the user
	UserID string
	Host   string
}

// commandSource is the eventSource of what commands do. CloudTrail has no type of identity or event for it.
const (
	commandSource   = "verenc"
	commandType     = "VerencCommand"
	operatorType    = "OperatingSystemUser"
	deliverInterval = time.Second
	deliverMany     = 100
)

// PendingRecord is an audit record that waits to be put into the log.
type PendingRecord struct {
	Number int64  // ascending
	Record []byte // JSON
}

// Outbox is the Auditor of commands. Only one process writes an audit log, and that may be a server; so a command leaves its
// records in the database, where they are durable before what they tell of is done, and the server that runs, or the next one, puts them
// into the log.
type Outbox struct{ Store Store }

// Append implements Auditor.
func (o Outbox) Append(ctx context.Context, r *audit.Record) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = o.Store.InsertPendingRecord(ctx, text)
	}
	if err != nil {
		return fmt.Errorf("keep an audit record: %w", err)
	}
	return nil
}

// RecordCommand keeps a record of a command that changes nothing in the database.
func (s *Service) RecordCommand(ctx context.Context, name string, parameters audit.Object) error {
	if s.cfg.Operator == nil {
		return nil
	}
	r, err := s.CommandRecord(name, parameters)
	if err != nil {
		return err
	}
	return s.cfg.Audit.Append(ctx, &r)
}

// command runs what an operator does, and keeps a record of it, written before its first change.
func (s *Service) command(ctx context.Context, name string, about []audit.Resource, parameters audit.Object, do func(context.Context) error) error {
	if s.cfg.Operator == nil {
		return do(ctx)
	}
	r, err := s.CommandRecord(name, parameters)
	if err != nil {
		return err
	}
	r.Resources = about
	return s.record(ctx, r, do)
}

// CommandRecord is the record of a command, for one that keeps it by itself.
func (s *Service) CommandRecord(name string, parameters audit.Object) (audit.Record, error) {
	id, err := s.newKeyID(false)
	o := s.cfg.Operator
	return audit.Record{
		UserIdentity: audit.UserIdentity{Type: operatorType, PrincipalID: o.UserID, UserName: o.Name},
		EventTime:    s.now(), EventSource: commandSource, EventName: name, EventType: commandType, SourceIPAddress: o.Host, UserAgent: commandSource,
		RequestParameters: parameters, EventID: id, ManagementEvent: true,
	}, err
}

// aboutPrincipal is the resource of a record about a user or a role.
func aboutPrincipal(principal string) []audit.Resource {
	return []audit.Resource{{ARN: principal, AccountID: arn.AccountOf(principal), Type: "AWS::IAM::" + kindOf(principal).title()}}
}

// keepDelivering puts the records of commands into the log, until ctx ends.
func (s *Service) keepDelivering(ctx context.Context) {
	tick := time.NewTicker(deliverInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		s.DeliverRecords(ending)
		cancel()
	}
}

// DeliverRecords puts the records of commands into the log that wait for it. Run goes on with it, also when that fails.
func (s *Service) DeliverRecords(ctx context.Context) {
	if err := s.deliver(ctx); err != nil {
		s.log.Error("put the records of commands into the audit log; it is tried again", zap.Error(err))
	}
}

// deliver puts the records into the log. Of several servers, one does it. A crash between a record and its removal gives it a second time, with the same
// eventID.
func (s *Service) deliver(ctx context.Context) error {
	waiting, err := s.store.PendingRecords(ctx, 1)
	if err != nil || len(waiting) == 0 {
		return err
	}
	return s.store.Exclusively(ctx, workRecords, s.deliverAll)
}

func (s *Service) deliverAll(ctx context.Context) error {
	for {
		records, err := s.store.PendingRecords(ctx, deliverMany)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, p := range records {
			var r audit.Record
			if err := json.Unmarshal(p.Record, &r); err != nil {
				return fmt.Errorf("read pending record %d: %w", p.Number, err)
			}
			if err := s.cfg.Audit.Append(ctx, &r); err != nil {
				return err
			}
			if err := s.store.RemovePendingRecord(ctx, p.Number); err != nil {
				return err
			}
		}
	}
}
