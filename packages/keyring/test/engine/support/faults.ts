import type { Database } from '@meshhook/keyring';
import { isLongRun } from '../../../../../test/support/long.ts';
import { connectionLost, interceptDatabase } from './intercept.ts';

export interface FaultPlan {
  /** Which statement fails, counted from 1. */
  readonly at: number;
  /** Before PostgreSQL gets the statement, or after it carried it out: then nobody here knows that it did. */
  readonly when: 'before it is sent' | 'after it was carried out';
  /** Whether one connection breaks, or the process is gone: nothing is sent after it, on any connection. */
  readonly then: 'the process goes on' | 'the process is gone';
}

/** Counts the statements of a database port, and breaks one of them. */
export class Fault {
  readonly plan: FaultPlan;
  /** The text of the statement that it struck. */
  struck: string | undefined;
  /** Statements sent so far, `begin` and `commit` too, on all connections. */
  sent = 0;
  #armed = false;

  constructor(plan: FaultPlan) {
    this.plan = plan;
  }

  /** Starts counting: what came before is not of interest. */
  arm(): void {
    this.#armed = true;
  }

  wrap(database: Database): Database {
    return interceptDatabase(database, async ({ statement, send, cut, lose }) => {
      // Where there is time for it, the connection itself breaks.
      const end = isLongRun ? cut : lose;
      if (this.struck !== undefined && this.plan.then === 'the process is gone') {
        end();
        throw connectionLost();
      }
      if (!this.#armed) return send();
      this.sent += 1;
      if (this.sent !== this.plan.at) return send();
      this.struck = statement.text;
      if (this.plan.when === 'after it was carried out') await send().catch(() => undefined);
      end();
      throw connectionLost();
    });
  }

  toString(): string {
    const { at, when, then } = this.plan;
    return `statement ${String(at)} lost ${when}, ${then}: ${(this.struck ?? '(none)').replaceAll(/\s+/g, ' ').slice(0, 120)}`;
  }
}

export interface FaultScenario<World> {
  /** The state that every point starts from. */
  readonly prepare: () => Promise<World>;
  /** What is struck. Calls `fault.arm()` when the statements begin that count. */
  readonly act: (world: World, fault: Fault) => Promise<void>;
  /** Goes on without faults, and proves that nothing is lost. */
  readonly recover: (world: World, fault: Fault) => Promise<void>;
  readonly plans: readonly FaultWay[];
}

/** How to strike, and where: every statement, or every twelfth one, from the first or from the seventh. */
export interface FaultWay extends Pick<FaultPlan, 'when' | 'then'> {
  readonly of?: 'odd' | 'even';
}

const STRIDE = 12;
const firstOf = { odd: 1, even: 7 } as const;

/**
 * Every sixth statement is struck, in one of two ways by turns: what there is time for in each run. All of them, in every
 * way, are struck by test/long, which `.ci/run` runs.
 */
export const byTurns: readonly FaultWay[] = [
  { when: 'before it is sent', then: 'the process is gone', of: 'odd' },
  { when: 'after it was carried out', then: 'the process goes on', of: 'even' },
];

export const bothWays: readonly FaultWay[] = byTurns.map(({ when, then }) => ({ when, then }));

export const everyWay: readonly FaultWay[] = [
  { when: 'before it is sent', then: 'the process is gone' },
  { when: 'before it is sent', then: 'the process goes on' },
  { when: 'after it was carried out', then: 'the process is gone' },
  { when: 'after it was carried out', then: 'the process goes on' },
];

/** Breaks each statement in turn, in each way, until the act gets through without meeting its fault. Gives the points tried. */
export async function strikeEveryStatement<World>(scenario: FaultScenario<World>): Promise<number> {
  let points = 0;
  for (const { when, then, of } of scenario.plans) {
    for (let at = of === undefined ? 1 : firstOf[of]; ; at += of === undefined ? 1 : STRIDE) {
      const fault = new Fault({ at, when, then });
      const world = await scenario.prepare();
      try {
        await scenario.act(world, fault).catch((error: unknown) => {
          if ((error as { code?: unknown }).code !== 'database_unreachable') throw error;
        });
        await scenario.recover(world, fault);
      } catch (error) {
        throw new Error(`After ${fault.toString()}`, { cause: error });
      }
      if (fault.struck === undefined) break;
      points += 1;
    }
  }
  return points;
}
