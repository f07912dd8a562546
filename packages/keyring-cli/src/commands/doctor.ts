import type { DoctorReport } from '@meshhook/keyring';
import type { Command } from 'commander';
import { leaf } from '../command.ts';
import { Unhealthy } from '../exit-codes.ts';
import { withKeyring, type App } from '../session.ts';
import { line, plural } from '../terminal/text.ts';

export function registerDoctor(program: Command, app: App): void {
  leaf(
    program,
    'doctor',
    'opens every secret, checks keys and catalog, says what is wrong and what to do; changes nothing',
    ['mh-keys doctor', 'mh-keys doctor --json > report.json || echo unhealthy'],
  ).action(async () => {
    const { terminal } = app;
    const report = await withKeyring(app, (keyring) =>
      keyring.doctor({ onProgress: (rows) => terminal.status(`opening  ${plural(rows, 'row')} so far`) }),
    );
    terminal.result({ report }, () => view(app, report));
    const errors = report.findings.filter(({ severity }) => severity === 'error').length;
    if (!report.healthy) {
      throw new Unhealthy(`${plural(errors, 'finding')} to mend.`, 'Each finding above names its remedy.', { errors });
    }
  });
}

function view({ terminal }: App, { healthy, rowsChecked, keysChecked, findings }: DoctorReport): string {
  const verdict = healthy ? terminal.style('green', 'Healthy') : terminal.style('red', 'Not healthy');
  const lines = [`${verdict}: opened ${plural(rowsChecked, 'row')}, tried ${plural(keysChecked, 'key version')}.`];
  for (const { severity, code, message, remedy } of findings) {
    const label = terminal.style(severity === 'error' ? 'red' : 'yellow', `${severity}:`);
    lines.push('', `${label} ${line`${message} [${code}]`}`, `${terminal.style('cyan', 'hint:')} ${line`${remedy}`}`);
  }
  return lines.join('\n');
}
