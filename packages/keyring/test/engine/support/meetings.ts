import type { Database } from '@meshhook/keyring';
import { interceptDatabase } from './intercept.ts';

/** Something that happens in the middle of an operation. */
export interface Meeting {
  /** It comes after the first answer to such a statement that follows the meeting before. */
  readonly at: (text: string, values: readonly unknown[]) => boolean;
  readonly meet: () => Promise<void>;
}

/** A database whose user meets these, one after the other; each is over before the statement's answer is given. */
export function meeting(...meetings: Meeting[]): (database: Database) => Database {
  return (database) =>
    interceptDatabase(database, async ({ statement: { text, values = [] }, send }) => {
      const answer = await send();
      if (meetings[0]?.at(text, values) === true) await meetings.shift()?.meet();
      return answer;
    });
}

/** A batch of a column was moved. */
export function moved(label: string): Meeting['at'] {
  return (text) => text.includes(`keyring.move_${label.replace('.', '__')}`);
}

/** Rows of a table were read back: under whatever version. */
export function readBack(table: string): Meeting['at'] {
  return (text, values) =>
    text.includes('as envelope') && text.includes(`from ${table} `) && values.flat().slice(1).includes(null);
}
