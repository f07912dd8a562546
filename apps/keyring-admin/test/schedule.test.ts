import { describe, expect, it } from 'vitest';
import { fillProject } from './support/server.ts';
import { useSite } from './support/site.ts';

describe('the schedule, in a real browser', () => {
  const site = useSite((place) => fillProject(place.keyring, 'acme', 2));

  const days = (number: number): number => number * 24 * 60 * 60 * 1000;

  it('every 30 days: previewed with its next dates, changed, and saved', async () => {
    const page = await site.visitor.open('/schedule');
    await page.getByLabel('Every').fill('30');
    await page.getByRole('button', { name: 'Preview the dates' }).click();
    await page.getByRole('heading', { name: 'What it would be' }).waitFor();
    expect(await page.getByRole('status').filter({ hasText: 'What it would be' }).innerText()).toMatch(
      /every 30 days/i,
    );
    expect((await site.place.keyring.policies.show()).rotateAfterMs).toBe(days(90));
    expect(await page.getByLabel('Every').inputValue()).toBe('30');

    await page.getByLabel('Every').fill('60');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText(/^Saved: every 60 days/).waitFor();
    const { dates } = await site.place.keyring.policies.next();
    const shown = page.getByRole('status').getByRole('listitem');
    expect(await shown.count()).toBe(5);
    expect(await shown.first().locator('time').getAttribute('datetime')).toBe(dates[0]?.toISOString());

    // And back to 90 days, with the date that comes of it.
    await page.getByLabel('Every').fill('90');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText(/^Saved: every 90 days/).waitFor();
    const [date] = (await site.place.keyring.policies.next()).dates;
    const first = page.getByRole('status').getByRole('listitem').first().locator('time');
    await expect.poll(() => first.getAttribute('datetime')).toBe(date?.toISOString());
    expect(date?.getTime()).toBeGreaterThan(Date.now() + days(80));
    expect(date?.getTime()).toBeLessThanOrEqual(Date.now() + days(90));
    await page.close();
  });

  it('a project gets its own, in quiet hours of its own time zone, and goes by the default again', async () => {
    const page = await site.visitor.open('/schedule?project=acme');
    await page.getByRole('radio', { name: 'In quiet hours' }).check();
    await page.getByLabel('Time zone').fill('Europe/Atlantis');
    await page.getByRole('button', { name: 'Save' }).click();
    await page
      .getByText(/Atlantis|time zone/)
      .first()
      .waitFor();
    await page.getByLabel('Time zone').fill('Europe/Berlin');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText(/^Saved:/).waitFor();
    const { id } = await site.place.keyring.projects.resolve('acme');
    expect((await site.place.keyring.policies.show(id)).quietHours).toEqual({
      zone: 'Europe/Berlin',
      windows: [{ days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '22:00', to: '06:00' }],
    });
    await page.getByRole('button', { name: 'Go by the default again' }).click();
    await page.getByText('It goes by the default again.').waitFor();
    expect((await site.place.keyring.policies.show(id)).quietHours).toBeUndefined();
    await page.close();
  });

  it('the keyboard alone sets it, and without a reason it is not switched off', async () => {
    const page = await site.visitor.open('/schedule');
    const reach = async (wanted: ReturnType<typeof page.getByRole>): Promise<void> => {
      for (let presses = 0; presses < 60; presses += 1) {
        await page.keyboard.press('Tab');
        if (await wanted.evaluate((element) => element === document.activeElement)) return;
      }
      throw new Error('it is not reached by Tab');
    };
    await reach(page.getByRole('radio', { name: /^On:/ }));
    await page.keyboard.press('ArrowDown');
    await reach(page.getByRole('button', { name: 'Save' }));
    await page.keyboard.press('Enter');
    await page.getByText('Say why it is off.').waitFor();
    // The focus is where the trouble is.
    await page.keyboard.type('nothing changes before the fair');
    await page.keyboard.press('Enter');
    await page.getByText(/^Saved:/).waitFor();
    expect(await site.place.keyring.policies.show()).toMatchObject({
      enabled: false,
      reason: 'nothing changes before the fair',
    });
    await page.close();
  });

  it('the browser had nothing to complain of', () => {
    expect(site.visitor.complaints).toEqual([]);
  });
});
