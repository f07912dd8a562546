import { styleText } from 'node:util';
import { CommanderError } from 'commander';
import { describeError } from './describe-error.ts';
import { cut, oneLine, printable } from './text.ts';

/** What a program is given to write to; a part of Node's own streams, so that tests can bring their own. */
export interface OutputStream {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(chunk: string | Uint8Array, written?: (error?: Error | null) => void): unknown;
}

export interface TerminalOptions {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly json: boolean;
  readonly color: boolean;
  readonly animated: boolean;
}

type Style = Parameters<typeof styleText>[0];

/**
 * Everything that is printed goes through here, so that a script can rely on it:
 *
 * - standard output has the answer and nothing else: text for people, or with `--json` one JSON document;
 * - standard error has the rest: notes, progress, and `error:` and `hint:` lines; with `--json` one JSON object per line,
 *   `{"note": …}`, the last one `{"error": …}` if it failed;
 * - what redraws itself or is coloured goes to a terminal only.
 */
export class Terminal {
  readonly json: boolean;
  readonly #options: TerminalOptions;
  #statusShown = false;

  constructor(options: TerminalOptions) {
    this.#options = options;
    this.json = options.json;
  }

  /** Is standard output a terminal? */
  get isInteractive(): boolean {
    return this.#options.stdout.isTTY === true;
  }

  /** May `status` be used? */
  get isAnimated(): boolean {
    return !this.json && this.#options.animated && this.#options.stderr.isTTY === true;
  }

  /**
   * The answer: `document` with `--json` (what is undefined becomes null), else what `text` gives, in which names that
   * others chose went through `table` or `line`.
   */
  result(document: unknown, text: () => string): void {
    this.clearStatus();
    const nulls = (_: string, value: unknown): unknown => (value === undefined ? null : value);
    this.#options.stdout.write(`${this.json ? JSON.stringify(document, nulls, 2) : text()}\n`);
  }

  /** Bytes of the answer, as they are. */
  raw(bytes: Uint8Array): void {
    this.#options.stdout.write(bytes);
  }

  /** The same, for what has to arrive: rejects when it did not. */
  deliver(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#options.stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** A long answer, as fast as it is read. When nobody reads on (`mh-keys audit export | head`), no more is fetched, and it is no failure. */
  async stream(parts: AsyncIterable<string>): Promise<void> {
    for await (const part of parts) {
      const arrived = await this.deliver(Buffer.from(part)).then(
        () => true,
        (error: unknown) => {
          if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error;
          return false;
        },
      );
      if (!arrived) return;
    }
  }

  note(text: string): void {
    this.#line({ note: text }, printable(text));
  }

  /** For people only: nothing with `--json`. */
  say(text: string): void {
    if (!this.json) this.#line({}, printable(text));
  }

  error(error: unknown): void {
    // Asking for help is none, and commander has printed it.
    if (error instanceof CommanderError && error.exitCode === 0) return;
    const { stack, ...description } = describeError(error);
    const { code, message, remedy } = description;
    const lines = [`${this.#label('red', 'error:')} ${printable(message)} [${code}]`];
    if (stack !== undefined) lines.push(printable(stack));
    if (remedy !== undefined) lines.push(`${this.#label('cyan', 'hint:')} ${printable(remedy)}`);
    this.#line({ error: description }, lines.join('\n'));
  }

  /** Redraws one line, cut to the width of the terminal. */
  status(text: string): void {
    if (!this.isAnimated) return;
    // Some terminals say that they have no columns.
    const columns = this.#options.stderr.columns || 80;
    this.#options.stderr.write(`\r\u001b[2K${cut(oneLine(text), columns - 1)}`);
    this.#statusShown = true;
  }

  clearStatus(): void {
    if (this.#statusShown) this.#options.stderr.write('\r\u001b[2K');
    this.#statusShown = false;
  }

  /** For what goes into `result`. */
  style(style: Style, text: string): string {
    const styled = this.#options.color && this.isInteractive && !this.json;
    return styled ? styleText(style, text, { validateStream: false }) : text;
  }

  #label(style: Style, text: string): string {
    const styled = this.#options.color && this.#options.stderr.isTTY === true;
    return styled ? styleText(style, text, { validateStream: false }) : text;
  }

  #line(document: object, text: string): void {
    this.clearStatus();
    this.#options.stderr.write(`${this.json ? JSON.stringify(document) : text}\n`);
  }
}
