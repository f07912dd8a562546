/**
 * Builds what the README's commands run: the packages (their types by tsc, their code by scripts/bundle.ts), the migrations
 * beside the library that applies them, and the admin app. Run by `npm ci` (as `prepare`), so a fresh clone works at once.
 *
 *   node scripts/build.ts              everything
 *   node scripts/build.ts --packages   not the app
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, rmSync } from 'node:fs';
import path from 'node:path';
import { bundlePackages } from './bundle.ts';

const root = path.join(import.meta.dirname, '..');
const bin = (name: string): string => path.join(root, 'node_modules', '.bin', name);
const run = (command: string, args: string[], cwd = root): void => {
  execFileSync(command, args, { cwd, stdio: 'inherit' });
};

run(bin('tsc'), ['-b']);
await bundlePackages(path.join(root, 'packages'));

const shipped = path.join(root, 'packages/keyring/dist/migrations');
rmSync(shipped, { recursive: true, force: true });
cpSync(path.join(root, 'supabase/migrations'), shipped, { recursive: true });

const admin = path.join(root, 'apps/keyring-admin');
const wantsApp = !process.argv.includes('--packages') && existsSync(path.join(admin, 'vite.config.ts'));
if (wantsApp) run(bin('vite'), ['build'], admin);
