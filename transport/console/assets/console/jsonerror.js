// Where a text is wrong as JSON. Browsers say it each in their own words, and some not at all.

class Wrong extends Error {
  constructor(message, at) {
    super(message);
    this.at = at;
  }
}

const deepest = 100; // levels, more than any policy has
const number = /-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const escape = /\\(["\\/bfnrt]|u[0-9a-fA-F]{4})/y;

// jsonError gives what is wrong and where (at, and line and column from 1), or null. A name that is twice in an object is
// wrong, too: readers don't agree on which of the two counts.
export function jsonError(text) {
  try {
    new Reader(text).whole();
    return null;
  } catch (e) {
    if (!(e instanceof Wrong)) throw e;
    const lines = text.slice(0, e.at).split("\n");
    return { message: e.message, at: e.at, line: lines.length, column: lines.at(-1).length + 1 };
  }
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  wrong(message, at = this.at) {
    throw new Wrong(at >= this.text.length ? `the text ends here, and ${message}` : message, at);
  }

  blanks() {
    while (" \t\r\n".includes(this.text[this.at] ?? "x")) this.at++;
  }

  // next tells what comes behind the blanks.
  next() {
    this.blanks();
    return this.text[this.at];
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at += found[0].length;
    return Boolean(found);
  }

  whole() {
    this.value(0);
    if (this.next() !== undefined) this.wrong("nothing may follow the end of the document");
  }

  value(depth) {
    if (depth > deepest) this.wrong("this is nested too deeply");
    const c = this.next();
    if (c === "{") return this.object(depth);
    if (c === "[") return this.array(depth);
    if (c === '"') return this.string();
    if (!this.match(/true|false|null/y) && !this.match(number)) this.wrong("a value is expected");
  }

  object(depth) {
    const names = new Set();
    this.at++;
    if (this.next() === "}") return this.at++;
    for (;;) {
      if (this.next() !== '"') this.wrong("a name in double quotes is expected");
      const begin = this.at;
      const name = this.string();
      if (names.has(name)) this.wrong(`the name ${JSON.stringify(name)} is there twice`, begin);
      names.add(name);
      if (this.next() !== ":") this.wrong("a colon is expected");
      this.at++;
      this.value(depth + 1);
      if (this.separator("}")) return;
    }
  }

  array(depth) {
    this.at++;
    if (this.next() === "]") return this.at++;
    for (;;) {
      this.value(depth + 1);
      if (this.separator("]")) return;
    }
  }

  // separator reads a comma, or the end of a list, and tells which.
  separator(end) {
    const c = this.next();
    if (c !== "," && c !== end) this.wrong(`a comma or ${end} is expected`);
    this.at++;
    return c === end;
  }

  string() {
    const begin = this.at++;
    for (;;) {
      const c = this.text[this.at];
      if (c === '"') {
        this.at++;
        return JSON.parse(this.text.slice(begin, this.at));
      }
      if (c === undefined || c === "\n") this.wrong("the text in double quotes is not closed", begin);
      if (c < " ") this.wrong("a control character must be written as an escape");
      if (c !== "\\") this.at++;
      else if (!this.match(escape)) this.wrong("this is not an escape of JSON");
    }
  }
}
