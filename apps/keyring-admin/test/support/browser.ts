import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import sparticuz, { inflate } from '@sparticuz/chromium';
import { chromium, type Browser } from 'playwright-core';

const packed = fileURLToPath(new URL('..', import.meta.resolve('@sparticuz/chromium')));
const { version } = JSON.parse(readFileSync(path.join(packed, 'package.json'), 'utf8')) as { version: string };

/**
 * A real Chromium, which came through npm. It is unpacked once (200 MB, some seconds) into a folder of this user and
 * version, aside and then moved into place, so that a run that was killed leaves no half of one.
 */
export async function openBrowser(): Promise<Browser> {
  const folder = path.join(tmpdir(), `keyring-chromium-${version}-${userInfo().uid}`);
  if (!existsSync(folder)) await unpack(folder);
  const executablePath = path.join(folder, 'chromium');
  const options = {
    executablePath,
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
    timeout: 300_000,
  };
  try {
    return await chromium.launch(options);
  } catch (error) {
    if (!String(error).includes('shared libraries')) throw error;
    // A bare machine: the package brings the few libraries along that are not everywhere.
    return chromium.launch({
      ...options,
      env: { ...process.env, LD_LIBRARY_PATH: path.join(folder, 'al2023', 'lib') },
    });
  }
}

async function unpack(folder: string): Promise<void> {
  const aside = await mkdtemp(`${folder}-`);
  const before = process.env['TMPDIR'];
  // The package unpacks into the temporary folder, wherever that is.
  process.env['TMPDIR'] = aside;
  try {
    await sparticuz.executablePath();
    await inflate(path.join(packed, 'bin', 'al2023.tar.br'));
  } finally {
    if (before === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = before;
  }
  await rename(aside, folder).catch(async (error: unknown) => {
    await rm(aside, { recursive: true, force: true });
    if (!existsSync(folder)) throw error;
  });
}
