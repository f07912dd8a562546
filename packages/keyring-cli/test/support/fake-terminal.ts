import { Terminal, type TerminalOptions } from '../../src/terminal/terminal.ts';

/** A terminal that remembers what was written. */
export function fakeTerminal(options: Partial<TerminalOptions> & { tty?: boolean } = {}) {
  const { tty = false, ...rest } = options;
  const written = { stdout: '', stderr: '' };
  const stream = (name: keyof typeof written) => ({
    isTTY: tty,
    columns: 80,
    write: (chunk: string | Uint8Array) => (written[name] += chunk.toString()),
  });
  const terminal = new Terminal({
    stdout: stream('stdout'),
    stderr: stream('stderr'),
    json: false,
    color: false,
    animated: tty,
    ...rest,
  });
  return { terminal, written };
}
