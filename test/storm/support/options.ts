/** What the environment says of the storm; the only place of it that reads it. */
export interface StormOptions {
  /** Decides which actions are chosen, in which order, by each actor. When they come, and what they meet, it does not. */
  readonly seed: number;
  /** Workers and PostgreSQLs killed. */
  readonly kills: number;
}

const IN_NPM_TEST = 5;

export function stormOptions(): StormOptions {
  return {
    seed: numberOf('MESHHOOK_STORM_SEED') ?? Date.now() % 2 ** 32,
    kills: numberOf('MESHHOOK_STORM_KILLS') ?? IN_NPM_TEST,
  };
}

function numberOf(name: string): number | undefined {
  const text = process.env[name];
  if (text === undefined || text === '') return undefined;
  if (!/^\d{1,10}$/.test(text)) throw new TypeError(`${name} is a whole number.`);
  return Number(text);
}
