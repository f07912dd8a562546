import type { QuietHours } from '../../api-schedule.ts';
import { loadCron } from './cron.ts';
import { openings, type CronTimes, type Openings } from './quiet-hours.ts';

let cron: Promise<CronTimes> | undefined;

/** Makes quiet hours ready to be asked. @throws KeyringError `invalid_argument` for a cron expression that cannot be read here. */
export async function readQuietHours(quiet: QuietHours | undefined): Promise<Openings | undefined> {
  if (quiet === undefined) return undefined;
  if (!('cron' in quiet)) return openings(quiet, undefined);
  cron ??= loadCron().catch((error: unknown) => {
    cron = undefined;
    throw error;
  });
  return openings(quiet, await cron);
}
