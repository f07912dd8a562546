/** Lines for the person who started the server. No line ever holds a value, a key or a token. */
export interface Log {
  info(line: string): void;
  error(line: string): void;
}

export const consoleLog: Log = {
  info: (line) => {
    console.log(line);
  },
  error: (line) => {
    console.error(line);
  },
};
