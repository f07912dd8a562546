import type {
  OffProject,
  OverdueProject,
  Report,
  ReportedKey,
  ReportedRotation,
  ReportSection,
} from '../api-monitoring.ts';

type Cell = string | number | Date | undefined;
type Columns<Row> = Readonly<Record<string, (row: Row) => Cell>>;

const rotationColumns: Columns<ReportedRotation> = {
  kind: ({ kind }) => kind,
  id: ({ id }) => id,
  trigger: ({ trigger }) => trigger,
  outcome: ({ outcome }) => outcome,
  requestedBy: ({ requestedBy }) => requestedBy,
  reason: ({ reason }) => reason,
  requestedAt: ({ requestedAt }) => requestedAt,
  startedAt: ({ startedAt }) => startedAt,
  finishedAt: ({ finishedAt }) => finishedAt,
  durationMs: ({ durationMs }) => durationMs,
  projects: ({ projects }) => projects.total,
  projectsCompleted: ({ projects }) => projects['completed'] ?? 0,
  moved: ({ moved }) => moved,
  verified: ({ verified }) => verified,
  quarantined: ({ quarantined }) => quarantined,
  errors: ({ errors }) => errors.join(' '),
  receipts: ({ receipts }) => receipts,
  signingKeys: ({ signingKeys }) => signingKeys.join(' '),
};

const keyColumns: Columns<ReportedKey> = {
  kind: ({ kind }) => kind,
  id: ({ id }) => id,
  projectId: ({ projectId }) => projectId,
  projectName: ({ projectName }) => projectName,
  version: ({ version }) => version,
  status: ({ status }) => status,
  fingerprint: ({ fingerprint }) => fingerprint,
  createdAt: ({ createdAt }) => createdAt,
  activatedAt: ({ activatedAt }) => activatedAt,
  deactivatedAt: ({ deactivatedAt }) => deactivatedAt,
  suspendedAt: ({ suspendedAt }) => suspendedAt,
  compromisedAt: ({ compromisedAt }) => compromisedAt,
  rolledBackAt: ({ rolledBackAt }) => rolledBackAt,
  retentionUntil: ({ retentionUntil }) => retentionUntil,
  destroyedAt: ({ destroyedAt }) => destroyedAt,
  encryptions: ({ encryptions }) => encryptions,
};

const overdueColumns: Columns<OverdueProject> = {
  projectId: ({ projectId }) => projectId,
  projectName: ({ projectName }) => projectName,
  keyId: ({ keyId }) => keyId,
  version: ({ version }) => version,
  because: ({ because }) => because,
  keyCreatedAt: ({ keyCreatedAt }) => keyCreatedAt,
  dueAt: ({ dueAt }) => dueAt,
  encryptions: ({ encryptions }) => encryptions,
};

const offColumns: Columns<OffProject> = {
  projectId: ({ projectId }) => projectId,
  projectName: ({ projectName }) => projectName,
  keyId: ({ keyId }) => keyId,
  version: ({ version }) => version,
  reason: ({ reason }) => reason,
  keyCreatedAt: ({ keyCreatedAt }) => keyCreatedAt,
  dueAt: ({ dueAt }) => dueAt,
  encryptions: ({ encryptions }) => encryptions,
};

const columns: Readonly<Record<ReportSection, readonly string[]>> = {
  rotations: Object.keys(rotationColumns),
  keys: Object.keys(keyColumns),
  overdue: Object.keys(overdueColumns),
  off: Object.keys(offColumns),
};

const sections: readonly ReportSection[] = ['rotations', 'keys', 'overdue', 'off'];

/** The rows of a section as cells, by the name of their column. */
async function* cellsOf(report: Report, section: ReportSection): AsyncGenerator<Map<string, Cell>> {
  if (section === 'rotations') yield* cells(report.rotations(), rotationColumns);
  else if (section === 'keys') yield* cells(report.keys(), keyColumns);
  else if (section === 'overdue') yield* cells(report.overdue(), overdueColumns);
  else yield* cells(report.off(), offColumns);
}

async function* cells<Row>(rows: AsyncIterable<Row>, of: Columns<Row>): AsyncGenerator<Map<string, Cell>> {
  const entries = Object.entries(of);
  for await (const row of rows) yield new Map(entries.map(([name, value]) => [name, value(row)]));
}

/**
 * A report as RFC 4180, a part at a time: one section with its own columns, or all of them under all columns, the first of which says
 * which section a line is of.
 */
export async function* reportCsv(report: Report, only?: ReportSection): AsyncGenerator<string> {
  const names = only === undefined ? [...new Set(sections.flatMap((section) => columns[section]))] : columns[only];
  yield `${(only === undefined ? ['section', ...names] : names).join(',')}\r\n`;
  for (const section of only === undefined ? sections : [only]) {
    for await (const row of cellsOf(report, section)) {
      const line = names.map((name) => cell(row.get(name)));
      yield `${(only === undefined ? [cell(section), ...line] : line).join(',')}\r\n`;
    }
  }
}

/** Text that a spreadsheet would take for a formula is led by an apostrophe, as OWASP has it. */
function cell(value: Cell): string {
  if (value === undefined) return '';
  if (typeof value === 'number') return String(value);
  const text = value instanceof Date ? value.toISOString() : value;
  return `"${(/^\s*[=+\-@\t\r\n|%]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

/** A report as one JSON document, a part at a time. Times are RFC 3339 in UTC; what is not there is `null`. */
export async function* reportJson(report: Report, only?: ReportSection): AsyncGenerator<string> {
  yield `{"since":${JSON.stringify(report.since)},"until":${JSON.stringify(report.until)}`;
  for (const section of only === undefined ? sections : [only]) {
    yield `,"${section}":[`;
    let first = true;
    for await (const row of rowsOf(report, section)) {
      yield `${first ? '\n' : ',\n'}${JSON.stringify(row, (_, value: unknown) => (value === undefined ? null : value))}`;
      first = false;
    }
    yield '\n]';
  }
  yield '}\n';
}

function rowsOf(report: Report, section: ReportSection): AsyncIterable<object> {
  return report[section]();
}
