import {
  reportCsv,
  reportJson,
  type OffProject,
  type OverdueProject,
  type Report,
  type ReportedKey,
  type ReportedRotation,
  type ReportSection,
} from '@meshhook/keyring';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { leaf } from '../command.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { count, day, duration, instant } from '../terminal/text.ts';

// A person reads no more of each; a program asks for JSON or CSV, which have no such bound.
const SHOWN = 1_000;

interface Options {
  readonly since: Date;
  readonly until?: Date;
  readonly format: 'table' | 'json' | 'csv';
  readonly only?: ReportSection;
  readonly json?: true;
}

export function registerReport(program: Command, app: App): void {
  leaf(
    program,
    'report',
    'what an auditor asks: every rotation and every key of a time, what is overdue, and what is off',
    [
      'mh-keys report --since 2026-01-01',
      'mh-keys report --since 2026-01-01 --until 2026-07-01 --format csv --only rotations > rotations.csv',
      'mh-keys report --since 2026-01-01 --json | jq \'.rotations[] | select(.outcome == "failed")\'',
    ],
  )
    .requiredOption(
      '--since <time>',
      'a day (from its first moment in UTC) or a moment, as 2026-01-01T12:00:00Z',
      moment,
    )
    .option('--until <time>', 'up to that moment (default: now)', moment)
    .addOption(new Option('--format <format>', 'how it is written').choices(['table', 'json', 'csv']).default('table'))
    .addOption(
      new Option('--only <section>', 'one section instead of all').choices(['rotations', 'keys', 'overdue', 'off']),
    )
    .action((options: Options) =>
      withKeyring(app, async (keyring) => {
        const { since, until, only } = options;
        const report = keyring.monitoring.report({ since, ...(until === undefined ? {} : { until }) });
        const format = options.json === true ? 'json' : options.format;
        if (format === 'table') await show(app, report, only);
        else await app.terminal.stream(format === 'csv' ? reportCsv(report, only) : reportJson(report, only));
      }),
    );
}

function moment(text: string): Date {
  const date = new Date(text);
  if (/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text) && !Number.isNaN(date.getTime()))
    return date;
  throw new InvalidArgumentError('Write it as 2026-01-01, or with a time and a zone as 2026-01-01T12:00:00Z.');
}

const rotationColumns: readonly Column<ReportedRotation>[] = [
  { title: 'ASKED FOR', value: ({ requestedAt }) => instant(requestedAt) },
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'TRIGGER', value: ({ trigger }) => trigger },
  { title: 'BY', value: ({ requestedBy }) => requestedBy },
  { title: 'PROJECTS', value: ({ projects }) => count(projects.total), align: 'right' },
  { title: 'MOVED', value: ({ moved }) => count(moved), align: 'right' },
  { title: 'TOOK', value: ({ durationMs }) => duration(durationMs), align: 'right' },
  { title: 'OUTCOME', value: ({ outcome, errors }) => [outcome, ...errors].join(' ') },
  { title: 'RECEIPTS', value: ({ receipts }) => count(receipts), align: 'right' },
  { title: 'ROTATION', value: ({ id }) => id },
];

const keyColumns: readonly Column<ReportedKey>[] = [
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'PROJECT', value: ({ projectName }) => projectName ?? '-' },
  { title: 'VERSION', value: ({ version }) => version?.toString() ?? '-', align: 'right' },
  { title: 'STATUS', value: ({ status }) => status },
  { title: 'CREATED', value: ({ createdAt }) => day(createdAt) },
  { title: 'ACTIVE', value: ({ activatedAt }) => day(activatedAt) },
  { title: 'DEACTIVATED', value: ({ deactivatedAt }) => day(deactivatedAt) },
  { title: 'COMPROMISED', value: ({ compromisedAt }) => day(compromisedAt) },
  { title: 'KEPT UNTIL', value: ({ retentionUntil }) => day(retentionUntil) },
  { title: 'DESTROYED', value: ({ destroyedAt }) => day(destroyedAt) },
  { title: 'KEY', value: ({ id }) => id },
];

const overdueColumns: readonly Column<OverdueProject>[] = [
  { title: 'PROJECT', value: ({ projectName }) => projectName },
  { title: 'VERSION', value: ({ version }) => String(version), align: 'right' },
  { title: 'BECAUSE OF', value: ({ because }) => because },
  { title: 'DUE', value: ({ dueAt }) => day(dueAt) },
  { title: 'KEY', value: ({ keyId }) => keyId },
];

const offColumns: readonly Column<OffProject>[] = [
  { title: 'PROJECT', value: ({ projectName }) => projectName },
  { title: 'VERSION', value: ({ version }) => String(version), align: 'right' },
  { title: 'CREATED', value: ({ keyCreatedAt }) => day(keyCreatedAt) },
  { title: 'WHY', value: ({ reason }) => reason ?? '-' },
  { title: 'KEY', value: ({ keyId }) => keyId },
];

async function show(app: App, report: Report, only: ReportSection | undefined): Promise<void> {
  const { terminal } = app;
  const part = async <Row>(
    section: ReportSection,
    title: string,
    rows: () => AsyncIterable<Row>,
    columns: readonly Column<Row>[],
  ): Promise<string[]> => {
    if (only !== undefined && only !== section) return [];
    const shown: Row[] = [];
    let more = false;
    for await (const row of rows()) {
      more = shown.length === SHOWN;
      if (more) break;
      shown.push(row);
    }
    if (more) terminal.say(`These are the first ${count(SHOWN)} of ${section}: --format csv has all of them.`);
    const heading = terminal.style(
      'bold',
      `${title}: ${more ? `more than ${count(SHOWN)}` : shown.length === 0 ? 'none' : count(shown.length)}`,
    );
    return [shown.length === 0 ? heading : `${heading}\n${table(shown, columns)}`];
  };
  const parts = [
    ...(await part('rotations', 'Rotations', () => report.rotations(), rotationColumns)),
    ...(await part('keys', 'Keys', () => report.keys(), keyColumns)),
    ...(await part('overdue', 'Overdue', () => report.overdue(), overdueColumns)),
    ...(await part('off', 'Rotation switched off', () => report.off(), offColumns)),
  ];
  terminal.result({}, () => `From ${instant(report.since)} to ${instant(report.until)}\n\n${parts.join('\n\n')}`);
}
