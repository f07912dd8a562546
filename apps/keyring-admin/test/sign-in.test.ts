import { rm } from 'node:fs/promises';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openBrowser } from './support/browser.ts';
import { makePlace, startServer, temporaryFolder, type Place, type Server } from './support/server.ts';

let place: Place;
let server: Server;
let browser: Browser;
beforeAll(async () => {
  browser = await openBrowser();
  place = await makePlace();
  server = await startServer(place.environment);
});
afterAll(async () => {
  await (browser as Browser | undefined)?.close();
  await (server as Server | undefined)?.[Symbol.asyncDispose]();
  await (place as Place | undefined)?.[Symbol.asyncDispose]();
});

it('a link signs in once, leaves its secret in no address, log or history, and signing out ends it', async () => {
  const page = await browser.newPage();
  const asked: string[] = [];
  page.on('request', (request) => asked.push(request.url(), JSON.stringify(request.headers())));
  await page.goto(server.url);
  expect(new URL(page.url()).pathname).toBe('/sign-in');

  const { secret } = await place.keyring.access.sessions.createLink();
  await page.goto('about:blank');
  await page.goto(`${server.url}/sign-in#${secret}`);
  await page.waitForURL((url) => url.pathname !== '/sign-in');
  expect(await page.title()).not.toContain('Sign in');
  const [cookie] = await page.context().cookies();
  expect(cookie).toMatchObject({ name: 'mh_session', httpOnly: true, sameSite: 'Strict' });
  expect(await page.evaluate('document.cookie')).not.toContain('mhs_');
  // Chromium tells the fragment of what was navigated to; no request carries it.
  expect(asked.filter((one) => one.includes(secret) && !one.endsWith(`#${secret}`))).toEqual([]);
  await page.goBack();
  expect(page.url()).not.toContain(secret);
  expect(server.output()).not.toContain(secret);

  const second = await browser.newPage();
  await second.goto(`${server.url}/sign-in#${secret}`);
  await second.getByRole('alert').getByText('used already').waitFor();
  expect(second.url()).not.toContain(secret);
  await second.close();

  await page.goto(`${server.url}/sign-in`);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('npx mh-keys sign-in').waitFor();
  await page.goto(`${server.url}/keys`);
  expect(new URL(page.url()).pathname).toBe('/sign-in');
  await page.close();
});

it('at the first start the link that the server prints signs in, and the page says how to begin', async () => {
  const home = await temporaryFolder();
  try {
    await using first = await startServer({ MESHHOOK_HOME: home });
    const link = /^sign in +(http:\S+)$/m.exec(first.output())?.[1] ?? '';
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(link);
    await page.getByRole('heading', { name: 'Overview' }).waitFor();
    await page.getByText('Make a project and give it a secret').waitFor();
    await page.getByText('operator', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByText('npx mh-keys sign-in').waitFor();
    await context.close();
  } finally {
    await rm(home, { recursive: true, force: true });
  }
});

it('no page is there for who is not signed in, nor its data', async () => {
  for (const address of ['/', '/keys', '/rotations', '/secrets', '/settings/keys', '/keys/__data.json', '/nothing']) {
    const answer = await fetch(server.url + address, { redirect: 'manual' });
    const text = await answer.text();
    expect(answer.status === 303 || text.includes('"redirect"')).toBe(true);
    expect(answer.headers.get('location') ?? '/sign-in').toBe('/sign-in');
  }
});
