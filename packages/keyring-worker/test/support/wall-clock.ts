/** What clocks of a zone show, told by `Intl` and nothing of ours: the schedule's own arithmetic is what it is compared with. */
export interface Shown {
  /** `mon`. */
  readonly weekday: string;
  /** Of the month. */
  readonly day: number;
  /** `04:05`. */
  readonly time: string;
}

const formats = new Map<string, Intl.DateTimeFormat>();

export function shown(zone: string, instant: number): Shown {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-GB', {
      timeZone: zone,
      weekday: 'short',
      day: 'numeric',
      hour: '2-digit',
      minute: '2-digit',
      hourCycle: 'h23',
    });
    formats.set(zone, format);
  }
  const parts = new Map(format.formatToParts(instant).map(({ type, value }) => [type, value]));
  return {
    weekday: (parts.get('weekday') ?? '').toLowerCase(),
    day: Number(parts.get('day')),
    time: `${parts.get('hour') ?? ''}:${parts.get('minute') ?? ''}`,
  };
}

/** The instants, to a quarter of an hour, around which a zone's clocks are changed. */
export function changesOf(zone: string, from: number, until: number): number[] {
  const quarter = 15 * 60_000;
  const offset = (instant: number): string => {
    const { time } = shown(zone, instant);
    const utc = new Date(instant).toISOString().slice(11, 16);
    const minutes = (text: string): number => Number(text.slice(0, 2)) * 60 + Number(text.slice(3));
    return String((minutes(time) - minutes(utc) + 1440) % 1440);
  };
  const found: number[] = [];
  // Day by day, then the day in quarters.
  for (let day = from; day < until; day += 86_400_000) {
    if (offset(day) === offset(day + 86_400_000)) continue;
    for (let at = day; at < day + 86_400_000; at += quarter)
      if (offset(at) !== offset(at + quarter)) found.push(at + quarter);
  }
  return found;
}
