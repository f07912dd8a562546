import { KeyringError } from '../../errors.ts';
import type { CronTimes } from './quiet-hours.ts';

/**
 * Loads croner, which reads cron expressions: an optional peer of the library, wanted only where a policy has one.
 * @throws KeyringError `invalid_argument` when it is not installed; what it gives throws that for an expression it cannot read.
 */
export async function loadCron(): Promise<CronTimes> {
  const { Cron } = await import('croner').catch((cause: unknown) => {
    throw new KeyringError(
      'invalid_argument',
      'Cron expressions need the package croner, which cannot be loaded here.',
      {
        remedy: 'Run `npm install croner` where the program is installed, or set quiet hours by days and times.',
        cause,
      },
    );
  });
  return (expression, zone) => {
    let cron: InstanceType<typeof Cron>;
    try {
      cron = new Cron(expression, { timezone: zone, mode: '5-part', paused: true });
    } catch (cause) {
      throw new KeyringError('invalid_argument', 'The cron expression cannot be read.', {
        remedy: 'Write five fields, as `0 3 * * sat`: minute, hour, day of the month, month, day of the week.',
        cause,
      });
    }
    return (after) => cron.nextRun(new Date(after))?.getTime();
  };
}
