import type { Browser, BrowserContextOptions } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { longTest } from '../../../test/support/long.ts';
import { openBrowser } from './support/browser.ts';
import { fillDemo, type Demo } from './support/demo.ts';
import { makePlace, startServer, type Place, type Server } from './support/server.ts';
import { phone, violations, visit } from './support/visitor.ts';

describe('axe', () => {
  let place: Place;
  let server: Server;
  let browser: Browser;
  let demo: Demo;

  beforeAll(async () => {
    browser = await openBrowser();
    place = await makePlace();
    demo = await fillDemo(place.keyring, place.database.adminUrl);
    server = await startServer(place.environment);
  });
  afterAll(async () => {
    await (browser as Browser | undefined)?.close();
    await (server as Server | undefined)?.[Symbol.asyncDispose]();
    await (place as Place | undefined)?.[Symbol.asyncDispose]();
  });

  async function look(options: BrowserContextOptions): Promise<Record<string, string[]>> {
    await using visitor = await visit(browser, place, () => server.url, options);
    const acme = demo.projects.get('acme') ?? '';
    const addresses = [
      ...[
        '/',
        '/keys',
        `/keys/${acme}`,
        '/rotations',
        `/rotations/${demo.blocked}`,
        `/rotations/${demo.completed}`,
        `/rotations/${demo.completed}/projects?state=completed`,
      ],
      ...['/rotate', '/rotate?why=routine', '/rotate?why=data-key', '/rotate?why=wrapping-key', '/rotate?why=person'],
      ...['/schedule', `/schedule?project=${acme}`, '/secrets', `/secrets/${acme}`],
      ...['/settings', '/settings/approvals', '/settings/notifications', '/settings/machines', '/settings/keys'],
      ...['/audit', '/nothing'],
    ];
    const found: Record<string, string[]> = {};
    const page = await visitor.open('/');
    for (const address of addresses) {
      await page.goto(server.url + address);
      // What is folded is looked at, too.
      await page.evaluate(() => {
        for (const details of document.querySelectorAll('details')) details.open = true;
      });
      const against = await violations(page);
      if (against.length > 0) found[address] = against;
    }
    return found;
  }

  it('finds nothing on any page', async () => {
    expect(await look({ colorScheme: 'light' })).toEqual({});
  });
  longTest('finds nothing on any page in the dark', async () => {
    expect(await look({ colorScheme: 'dark' })).toEqual({});
  });
  longTest('finds nothing on any page on a phone', async () => {
    expect(await look({ viewport: phone })).toEqual({});
  });
});
