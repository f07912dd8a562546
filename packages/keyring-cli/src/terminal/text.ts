/** Text for people: what it may hold, how wide it is, how numbers and times are written. */

// Names come from other programs' rows, and some terminals obey what is written in them: escape sequences, and marks that turn
// the direction of text around.
const commanding = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/** With everything that would command a terminal made visible; tabs and line ends stay. */
export function printable(text: string): string {
  return text.replace(commanding, '\ufffd');
}

/** On one line. */
export function oneLine(text: string): string {
  return printable(text)
    .replace(/\s*\n\s*/g, ' ')
    .replaceAll('\t', ' ');
}

/** A template's text, with everything that is filled in on one line and harmless to a terminal. */
export function line(texts: TemplateStringsArray, ...values: readonly (string | number)[]): string {
  return texts.map((text, i) => text + oneLine(String(values[i] ?? ''))).join('');
}

// Made when it is needed, which for plain ASCII is never: it takes longer than to print a table.
let segmenter: Intl.Segmenter | undefined;
const wide =
  /^(?:\p{Extended_Pictographic}\ufe0f?|\p{Regional_Indicator}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|[\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}])/u;

/** Columns of a terminal: letters of East Asian scripts and emoji take two. */
export function width(text: string): number {
  if (/^[ -~]*$/.test(text)) return text.length;
  segmenter ??= new Intl.Segmenter();
  let columns = 0;
  for (const { segment } of segmenter.segment(text)) columns += wide.test(segment) ? 2 : 1;
  return columns;
}

/** As much of `text` as has room. */
export function cut(text: string, columns: number): string {
  let end = 0;
  let room = columns;
  segmenter ??= new Intl.Segmenter();
  for (const { segment } of segmenter.segment(text)) {
    room -= width(segment);
    if (room < 0) break;
    end += segment.length;
  }
  return text.slice(0, end);
}

export function count(n: number): string {
  return n.toLocaleString('en-US');
}

/** `1 row`, `1,200 rows`. */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** `2026-11-23 20:57:01Z`. */
export function instant(date: Date | undefined): string {
  return date === undefined ? '-' : `${date.toISOString().slice(0, 19).replace('T', ' ')}Z`;
}

/** `2026-11-23`. */
export function day(date: Date | undefined): string {
  return date === undefined ? '-' : date.toISOString().slice(0, 10);
}

/** `40 ms`, `3.2 s`, `4 min 5 s`, `7 h 3 min`, `12 d`. */
export function duration(ms: number | undefined): string {
  if (ms === undefined) return '-';
  if (ms < 1_000) return `${String(Math.round(ms))} ms`;
  const seconds = ms / 1_000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${String(minutes)} min ${String(Math.floor(seconds % 60))} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${String(hours)} h ${String(minutes % 60)} min`;
  return `${String(Math.floor(hours / 24))} d`;
}

/** For how old something is, where seconds do not matter. */
export function age(ms: number): string {
  return ms < 60_000 ? '< 1 min' : duration(ms).replace(/ \d+ s$/, '');
}
