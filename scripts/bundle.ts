/**
 * Writes the code of each package into few files. A program that starts reads every module that it imports, and finding, linking and
 * compiling three hundred small ones took half a second of `mh-keys`; what they do once they are there takes no longer.
 */
import { globSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { rolldown, type Plugin } from 'rolldown';

interface Manifest {
  readonly exports?: Readonly<Record<string, { readonly '@meshhook/source': string }>>;
}

/** Those under `folder`, of which each is bundled by itself: what it imports from others stays an import. */
export async function bundlePackages(folder: string): Promise<void> {
  const packages = globSync('*/package.json', { cwd: folder }).map((file) => path.join(folder, path.dirname(file)));
  await Promise.all(packages.map(bundlePackage));
}

async function bundlePackage(folder: string): Promise<void> {
  const [sources, built] = [path.join(folder, 'src'), path.join(folder, 'dist')];
  const bundle = await rolldown({
    input: Object.fromEntries(
      entriesOf(folder).map((file) => [file.slice(0, -'.ts'.length), path.join(sources, file)]),
    ),
    platform: 'node',
    external: /^[^./]/,
    plugins: [ownPlaces(sources)],
  });
  // What an earlier build left, and may no longer be there.
  for (const file of globSync('**/*.js{,.map}', { cwd: built })) rmSync(path.join(built, file));
  await bundle.write({ dir: built, format: 'esm', sourcemap: true, chunkFileNames: 'chunks/[name]-[hash].js' });
  await bundle.close();
}

/** What is loaded by its name: exports, a program, and what runs in threads. */
function entriesOf(folder: string): string[] {
  const { exports = {} } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')) as Manifest;
  const exported = Object.values(exports).map((entry) => path.relative('src', entry['@meshhook/source']));
  return [...exported, ...globSync(['main.ts', '**/*-thread.ts'], { cwd: path.join(folder, 'src') })];
}

/** `import.meta.url` of a module stays that of the file it had if nothing were bundled: files beside it are found from there. */
function ownPlaces(sources: string): Plugin {
  const mark = '/its-place-in-dist/';
  return {
    name: 'own-places',
    transform(code, id) {
      if (!code.includes('import.meta.url')) return undefined;
      const file = path.relative(sources, id).replace(/\.ts$/, '.js');
      return { code: code.replaceAll('import.meta.url', `new URL('${mark}${file}', import.meta.url).href`), map: null };
    },
    renderChunk(code, { fileName }) {
      return { code: code.replaceAll(mark, `${path.relative(path.dirname(fileName), '.') || '.'}/`), map: null };
    },
  };
}
