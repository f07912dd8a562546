import type { Reporter, TestModule } from 'vitest/node';
import { collectOutput } from './needles.ts';

/** Prints, at the end of a run, how long every test file took, the longest first. */
export default class SuiteTimes implements Reporter {
  onUserConsoleLog({ content }: { readonly content: string }): void {
    collectOutput(content);
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const rows = modules.map((module) => ({ name: module.relativeModuleId, ms: module.diagnostic().duration }));
    rows.sort((a, b) => b.ms - a.ms);
    console.log('\n Time per suite');
    for (const { name, ms } of rows) console.log(`${(ms / 1000).toFixed(2).padStart(8)} s  ${name}`);
  }
}
