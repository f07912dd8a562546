import { oneLine, width } from './text.ts';

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string;
  readonly align?: 'right';
}

/** Rows under titles, as wide as they are: ids have to be copied whole, so nothing is cut. Ends without a line end. */
export function table<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  styleTitle: (text: string) => string = (text) => text,
): string {
  const cells = rows.map((row) => columns.map((column) => oneLine(column.value(row))));
  const widths = columns.map(({ title }, i) => Math.max(width(title), ...cells.map((line) => width(line[i] ?? ''))));
  const line = (texts: readonly string[]): string =>
    columns
      .map(({ align }, i) => {
        const text = texts[i] ?? '';
        const gap = ' '.repeat((widths[i] ?? 0) - width(text));
        return align === 'right' ? gap + text : text + gap;
      })
      .join('  ')
      .trimEnd();
  return [styleTitle(line(columns.map(({ title }) => title))), ...cells.map(line)].join('\n');
}
