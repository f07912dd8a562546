/** What several commands show: rotations, rows, statuses. */
import type { QuarantinedRow, Rotation, RotationDetail, RotationProject } from '@meshhook/keyring';
import { table, type Column } from './terminal/table.ts';
import type { Terminal } from './terminal/terminal.ts';
import { count, duration, instant, line, plural } from './terminal/text.ts';

const rotationColumns: readonly Column<Rotation>[] = [
  { title: 'ROTATION', value: ({ id }) => id },
  { title: 'STATE', value: ({ state }) => state },
  { title: 'ASKED FOR', value: ({ requestedAt }) => instant(requestedAt) },
  { title: 'BY', value: ({ requestedBy }) => requestedBy },
  { title: 'PROJECTS', value: ({ projects }) => count(projects.total), align: 'right' },
  { title: 'ROWS', value: ({ rows }) => `${count(rows.moved)}/${count(rows.total)}`, align: 'right' },
  { title: 'TOOK', value: ({ durationMs }) => duration(durationMs), align: 'right' },
  { title: 'RUNNER', value: ({ runner }) => runner ?? '-' },
];

export function rotationTable(terminal: Terminal, rotations: readonly Rotation[]): string {
  return table(rotations, rotationColumns, (title) => terminal.style('bold', title));
}

const quarantineColumns: readonly Column<QuarantinedRow>[] = [
  { title: 'ROW', value: ({ label, rowId }) => `${label} ${rowId}` },
  { title: 'PROJECT', value: ({ projectId }) => projectId },
  { title: 'KEY', value: ({ keyId }) => keyId ?? '-' },
  { title: 'REASON', value: ({ reason }) => reason },
];

export function quarantineTable(terminal: Terminal, rows: readonly QuarantinedRow[]): string {
  return table(rows, quarantineColumns, (title) => terminal.style('bold', title));
}

/** One rotation in full: who, why, when; each project with its phases; the rows that did not open. */
export function rotationView(terminal: Terminal, rotation: RotationDetail): string {
  const { rows, projects } = rotation;
  const states = Object.entries(projects).filter(([name]) => name !== 'total');
  const facts: (readonly [string, string])[] = [
    ['state', rotation.state],
    ['asked for', `${instant(rotation.requestedAt)} by ${rotation.requestedBy} (${rotation.trigger})`],
    ...(rotation.reason === undefined ? [] : [['reason', rotation.reason] as const]),
    ['started', instant(rotation.startedAt)],
    ['finished', instant(rotation.finishedAt)],
    ['took', duration(rotation.durationMs)],
    ['runner', rotation.runner ?? '-'],
    ['pace', paceLine(rotation)],
    ['projects', `${count(projects.total)}: ${states.map(([state, n]) => `${count(n)} ${state}`).join(', ')}`],
    ['rows', rowsLine(rows)],
  ];
  const sections = [
    [terminal.style('bold', `Rotation ${rotation.id}`), ...facts.map(([k, v]) => line`  ${k.padEnd(10)}  ${v}`)].join(
      '\n',
    ),
    projectTable(terminal, rotation, rotation.projectDetails),
  ];
  if (projects.total > rotation.projectDetails.length) {
    sections.push(
      `The unfinished first; all ${count(projects.total)}, or those in a state: mh-keys rotations projects ${rotation.id}`,
    );
  }
  if (rotation.quarantine.length > 0) sections.push(quarantineTable(terminal, rotation.quarantine));
  return sections.join('\n\n');
}

export function projectTable(terminal: Terminal, rotation: Rotation, projects: readonly RotationProject[]): string {
  return table(projects, projectColumns(rotation), (title) => terminal.style('bold', title));
}

export function paceLine({ pace, maxRate }: Rotation): string {
  const cap = maxRate === undefined ? '' : `, at most ${plural(maxRate, 'row')} a second a process`;
  return `${pace === 'full' ? 'full speed' : 'polite'}${cap}`;
}

function rowsLine({ total, moved, verified, quarantined }: Rotation['rows']): string {
  const kept = quarantined === 0 ? '' : `, ${count(quarantined)} do not open`;
  return `${count(moved)} of ${plural(total, 'row')} re-encrypted, ${count(verified)} read back${kept}`;
}

function projectColumns({ requestedAt }: Rotation): readonly Column<RotationProject>[] {
  const after = (date: Date | undefined): string =>
    date === undefined ? '-' : `+${duration(Math.max(date.getTime() - requestedAt.getTime(), 0))}`;
  const version = (n: number | undefined): string => (n === undefined ? '?' : String(n));
  return [
    { title: 'PROJECT', value: ({ projectName }) => projectName },
    { title: 'VERSIONS', value: (one) => `${version(one.sourceVersion)} → ${version(one.targetVersion)}` },
    { title: 'STATE', value: ({ state }) => state },
    { title: 'MOVED', value: (one) => `${count(one.rowsMoved)}/${count(one.rowsTotal ?? 0)}`, align: 'right' },
    { title: 'READ BACK', value: ({ rowsVerified }) => count(rowsVerified), align: 'right' },
    { title: 'STAGED', value: ({ stagedAt }) => after(stagedAt), align: 'right' },
    { title: 'PROMOTED', value: ({ promotedAt }) => after(promotedAt), align: 'right' },
    { title: 'SWEPT', value: ({ sweptAt }) => after(sweptAt), align: 'right' },
    { title: 'FINISHED', value: ({ finishedAt }) => after(finishedAt), align: 'right' },
    { title: 'ERROR', value: ({ errorCode, errorDetail }) => [errorCode, errorDetail].filter(Boolean).join(': ') },
  ];
}

/** What a rotation came to, in a few lines. */
export function rotationSummary(terminal: Terminal, rotation: RotationDetail): string {
  const { rows, projects, state } = rotation;
  const lines = [
    terminal.style('bold', `Rotation ${rotation.id}: ${state.replace('_', ' ')} in ${duration(rotation.durationMs)}`),
  ];
  for (const one of rotation.projectDetails.slice(0, SUMMARY_PROJECTS)) lines.push(`  ${projectLine(one)}`);
  const more = projects.total - SUMMARY_PROJECTS;
  if (more > 0) lines.push(`  and ${plural(more, 'more project')}: mh-keys rotations ${rotation.id}`);
  lines.push(rowsLine(rows));
  if (state === 'completed') {
    lines.push(
      'No row of these projects names another version. Older ones only decrypt now: `mh-keys status` says until when.',
    );
  }
  if (rotation.quarantine.length > 0) lines.push('', quarantineTable(terminal, rotation.quarantine));
  return lines.join('\n');
}

const SUMMARY_PROJECTS = 20;

function projectLine(project: RotationProject): string {
  const { projectName, sourceVersion, targetVersion, state, errorDetail } = project;
  const versions =
    state === 'rolled_back'
      ? `version ${String(sourceVersion)} again, ${String(targetVersion)} is given up`
      : `version ${String(sourceVersion ?? '?')} → ${String(targetVersion ?? '?')}`;
  return line`${projectName}: ${versions}, ${state}${errorDetail === undefined ? '' : ` (${errorDetail})`}`;
}
