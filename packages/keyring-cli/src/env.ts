/** The only reader of the environment in this program, and the only place that lists what it reads. */

export interface Settings {
  /** `DATABASE_URL`: a PostgreSQL 15 to 18. Absent: the embedded one in `home`. */
  readonly databaseUrl: string | undefined;
  /** `MESHHOOK_ROOT_KEY`: a URI such as `file:./root.key`. Absent: the file that goes with the embedded database. */
  readonly rootKeyUri: string | undefined;
  /** `MESHHOOK_PREPARED_STATEMENTS`: `off` behind a transaction-mode pooler that does not track them, else `on`. */
  readonly preparedStatements: string;
  /** `MESHHOOK_HOME`: the folder of the embedded database. Default `.meshhook`. */
  readonly home: string;
  /** False with `NO_COLOR` (https://no-color.org) or on a dumb terminal. A terminal is needed besides. */
  readonly color: boolean;
  /** False with `CI` or on a dumb terminal: no progress bar that redraws itself. */
  readonly animated: boolean;
}

/** A variable that is set to nothing counts as not set. */
export function readSettings(environment: NodeJS.ProcessEnv = process.env): Settings {
  const get = (name: string): string | undefined => environment[name] || undefined;
  const dumb = get('TERM') === 'dumb';
  return {
    databaseUrl: get('DATABASE_URL'),
    rootKeyUri: get('MESHHOOK_ROOT_KEY'),
    preparedStatements: get('MESHHOOK_PREPARED_STATEMENTS') ?? 'on',
    home: get('MESHHOOK_HOME') ?? '.meshhook',
    color: get('NO_COLOR') === undefined && !dumb,
    animated: get('CI') === undefined && !dumb,
  };
}
