import { createServer, type IncomingHttpHeaders } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { Browser } from 'playwright-core';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBrowser } from './support/browser.ts';
import { makePlace, startServer, type Place, type Server } from './support/server.ts';
import { visit, type Visitor } from './support/visitor.ts';

describe('notifications, in a real browser', () => {
  let place: Place;
  let server: Server;
  let browser: Browser;
  let visitor: Visitor;
  const received: { readonly headers: IncomingHttpHeaders; readonly body: string }[] = [];
  const receiver = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => (body += text));
    request.on('end', () => {
      received.push({ headers: request.headers, body });
      response.writeHead(204).end();
    });
  });

  beforeAll(async () => {
    browser = await openBrowser();
    place = await makePlace();
    receiver.listen(0, '127.0.0.1');
    await once(receiver, 'listening');
    server = await startServer({ ...place.environment, MESHHOOK_NOTIFICATIONS_ALLOW: 'private,http' });
    visitor = await visit(browser, place, () => server.url);
  });
  afterAll(async () => {
    await (browser as Browser | undefined)?.close();
    await (server as Server | undefined)?.[Symbol.asyncDispose]();
    await (place as Place | undefined)?.[Symbol.asyncDispose]();
    receiver.close();
  });

  it('an endpoint is set, its secret shown once, a test delivered and verified, and nobody told any more', async () => {
    const page = await visitor.open('/settings');
    await page.getByRole('link', { name: 'Notifications' }).click();
    await page.getByText('Nobody is told anything.').waitFor();
    const address = page.getByLabel('Address');
    await address.fill('https://user:word@example.com/hook');
    await page.getByLabel('A rotation completed').uncheck();
    await page.getByRole('button', { name: 'Set the endpoint' }).click();
    // Refused beside the field, with what was typed and chosen.
    await page.locator('#set-url-wrong').getByText('user name or a password').waitFor();
    expect(await address.inputValue()).toBe('https://user:word@example.com/hook');
    expect(await page.getByLabel('A rotation completed').isChecked()).toBe(false);
    expect(await page.getByLabel('A rotation failed').isChecked()).toBe(true);

    const { port } = receiver.address() as AddressInfo;
    await address.fill(`http://127.0.0.1:${port}/hook`);
    await page.getByRole('button', { name: 'Set the endpoint' }).click();
    const secret = await page.locator('pre').innerText();
    expect(await place.keyring.notifications.show()).toMatchObject({ url: `http://127.0.0.1:${port}/hook` });
    expect((await place.keyring.notifications.show())?.events).not.toContain('rotation.completed');
    await page.reload();
    await page.getByRole('button', { name: 'Save' }).waitFor();
    expect(await page.content()).not.toContain(secret);

    await page.getByRole('button', { name: 'Send a test' }).click();
    await page.getByText('A message is in the queue.').waitFor();
    await page.getByRole('row', { name: /Test/ }).getByText('delivered').waitFor();
    const [first] = received;
    const { headers, body } = first ?? { headers: {}, body: '' };
    expect(new Webhook(secret).verify(body, headers as Record<string, string>)).toMatchObject({ type: 'test' });

    await page.getByText('Tell nobody any more…').click();
    await page.getByLabel(/^Type “127.0.0.1/).fill(`127.0.0.1:${port}`);
    await page.getByRole('button', { name: 'Tell nobody any more' }).click();
    await page.getByText('Nobody is told anything any more.').waitFor();
    expect(await place.keyring.notifications.show()).toBeUndefined();
    await page.close();
  });

  it('the browser had nothing to complain of', () => {
    expect(visitor.complaints).toEqual([]);
  });
});
