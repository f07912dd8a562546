import path from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { session } from '../../../test/support/database.ts';
import { openBrowser, screenshotFolder } from './support/browser.ts';
import { fillProject, makePlace, startServer, until, type Place, type Server } from './support/server.ts';

const phone = { width: 390, height: 844 };
const desktop = { width: 1280, height: 900 };

describe('the first page, in a real browser', () => {
  let place: Place;
  let server: Server;
  let browser: Browser;
  let screenshots: string;
  // What the browser complains of: errors in its console, of scripts, of the content security policy, of the network.
  const complaints: string[] = [];

  beforeAll(async () => {
    screenshots = await screenshotFolder();
    browser = await openBrowser();
    place = await makePlace();
    server = await startServer(place.environment);
  }, 120_000);
  afterAll(async () => {
    await (browser as Browser | undefined)?.close();
    await (server as Server | undefined)?.[Symbol.asyncDispose]();
    await (place as Place | undefined)?.[Symbol.asyncDispose]();
  });

  const open = async (options: Parameters<Browser['newPage']>[0] = {}): Promise<Page> => {
    const page = await browser.newPage({ viewport: desktop, ...options });
    if (options.javaScriptEnabled !== false) listen(page);
    await page.goto(server.url, { waitUntil: 'networkidle' });
    return page;
  };
  const listen = (page: Page): void => {
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('requestfailed', (request) => {
      const why = request.failure()?.errorText ?? '';
      // A page that is closed while it asks.
      if (why !== 'net::ERR_ABORTED') complaints.push(`${request.url()}: ${why}`);
    });
  };
  const shoot = (page: Page, name: string) =>
    page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true });
  const rotate = async (projects: string[], reason: string): Promise<string> => {
    const response = await fetch(`${server.url}/api/keys/rotate`, {
      method: 'POST',
      headers: { authorization: await place.authorization(), 'content-type': 'application/json' },
      body: JSON.stringify({ projects, reason }),
    });
    expect(response.status).toBe(202);
    return ((await response.json()) as { id: string }).id;
  };

  it('without a project it says how to make one', async () => {
    const page = await open();
    await expect(page.title()).resolves.toBe('Keys – MeshHook Keyring');
    expect(await page.getByText('npx mh-keys project create acme').isVisible()).toBe(true);
    await shoot(page, 'empty');
    await page.close();
  });

  it("shows a project's key as active, and a rotation asked for by the API until it is completed, by itself", async () => {
    const id = await fillProject(place.keyring, 'acme', 40);
    const page = await open();
    const keys = page.getByRole('table', { name: /key versions/ });
    const first = keys.getByRole('row').filter({ hasText: 'active' });
    expect((await first.innerText()).split(/\s+/)).toEqual(
      expect.arrayContaining(['1', 'active', '40', 'in', '90', 'days']),
    );

    const rotations = page.getByRole('table', { name: /Rotations/ });
    {
      await using holder = await session(place.database.adminUrl, 'holder');
      await holder.query('begin');
      await holder.query('select from public.secrets where project_id = $1 limit 1 for update', [id]);
      await rotate(['acme'], 'quarterly');
      // Nobody reloads: the page asks by itself, every five seconds while nothing goes on.
      await rotations.getByText('running').waitFor({ timeout: 20_000 });
      expect(await rotations.getByRole('progressbar').getAttribute('aria-label')).toBe('Secrets re-encrypted');
      expect(await page.getByRole('status').innerText()).toContain('1 rotation under way');
      await shoot(page, 'running');
    }
    await rotations.getByText('completed').waitFor({ timeout: 20_000 });
    expect(await rotations.innerText()).toContain('40 secrets re-encrypted, 40 verified');
    expect(await rotations.innerText()).toContain('quarterly');
    const rows = await keys.getByRole('row').allInnerTexts();
    expect(rows.some((row) => /^2\s+active\s.*\s40\s/s.test(row))).toBe(true);
    expect(rows.some((row) => /^1\s+deactivated\s.*\s0\s/s.test(row))).toBe(true);
    await page.close();
  });

  it('names of any length, direction and content are shown as they are, and run nothing', async () => {
    const script = '<script>window.owned = 1</script><img src=x onerror="window.owned = 1">{@html "x"}';
    await fillProject(place.keyring, script, 2);
    await fillProject(place.keyring, 'w'.repeat(200), 1);
    await fillProject(place.keyring, 'مشروع سري', 1);
    await place.keyring.projects.create({ name: 'nothing in it yet' });
    await rotate([script], '<b>routine</b>');
    await until(
      () => place.keyring.rotations.list({ limit: 1 }),
      ([one]) => one?.state === 'completed',
    );
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const [device, viewport] of Object.entries({ desktop, phone })) {
        const page = await open({ colorScheme, viewport });
        expect(await page.getByText(script).count()).toBeGreaterThan(0);
        expect(await page.getByText('<b>routine</b>').isVisible()).toBe(true);
        expect(await page.evaluate('window.owned')).toBeUndefined();
        // Nothing is wider than the screen.
        expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(viewport.width);
        await shoot(page, `${device}-${colorScheme}`);
        await page.close();
      }
    }
  });

  it('it is all there without scripts', async () => {
    const page = await open({ javaScriptEnabled: false });
    expect(await page.getByRole('table', { name: /Rotations/ }).innerText()).toContain('completed');
    await page.close();
  });

  it('a page that is left open comes back after the server did', async () => {
    const page = await open();
    const before = complaints.length;
    const { port } = new URL(server.url);
    await server.stop();
    await page.getByText('tries again by itself').waitFor({ timeout: 20_000 });
    server = await startServer({ ...place.environment, PORT: port });
    await page.getByRole('table', { name: /key versions/ }).waitFor({ timeout: 20_000 });
    await page.close();
    // That the server was away is no complaint.
    complaints.splice(before);
  });

  it('the browser had nothing to complain of', () => {
    expect(complaints).toEqual([]);
  });
});
