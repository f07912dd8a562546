import fc from 'fast-check';
import { onTestFinished } from 'vitest';
import { startInstallation } from './installation.ts';
import { commands, expectRest, type Model, type Real } from './model-commands.ts';
import { clearProjects, type KnownProject } from './world.ts';

/** Runs random sequences of commands against a model, the shortest that fails told. Gives how many commands were run. */
export async function runModel(runs: number, seed: number): Promise<number> {
  const installation = await startInstallation();
  onTestFinished(() => installation.end());
  let count = 0;
  await fc.assert(
    fc.asyncProperty(commands, async (sequence) => {
      await clearProjects(installation);
      const processes = [await installation.open({ keyCacheMs: 86_400_000 }), await installation.open()] as const;
      const made = async (name: string): Promise<KnownProject> => {
        const { id } = await processes[0].projects.create({ name });
        await processes[0].secrets.put(id, 'FIRST', 'put first');
        return { id, name, secrets: new Map([['FIRST', 'put first']]), webhooks: new Map() };
      };
      const projects = [await made('kept for no time'), await made('kept for a month')] as const;
      await installation.sql(`insert into keyring.rotation_policies (project_id, retention) values ($1, '0')`, [
        projects[0].id,
      ]);
      const model: Model = { projects, rotation: 'none', paused: false };
      const real: Real = { installation, processes, rotationId: '' };
      await fc.asyncModelRun(() => ({ model, real }), sequence);
      await expectRest(model, real);
      for (const _command of sequence) count += 1;
    }),
    { numRuns: runs, seed, endOnFailure: runs < 100 },
  );
  return count;
}
