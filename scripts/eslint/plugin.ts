/**
 * The rules of this repository that no published plugin has: layers, the environment, silenced tests. Every message says
 * why, because whoever meets it has usually not read the table.
 */
import { existsSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import type { ESLint, Rule } from 'eslint';
import { coreLayers, packages, type Layer, type Package } from './layers.ts';

const root = path.join(import.meta.dirname, '../..');
const coreSource = 'packages/keyring/src/';

// The parser gives TypeScript's nodes too, which ESLint's own types do not know: a node is what these rules look at.
interface Node {
  readonly type: string;
  readonly [key: string]: unknown;
}

const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null && 'type' in value;
const asReported = (node: Node): Rule.Node => node as unknown as Rule.Node;
const listener = (handlers: Record<string, (node: Node) => void>): Rule.RuleListener =>
  handlers as unknown as Rule.RuleListener;
const textOf = (node: unknown): string | undefined =>
  isNode(node) && node.type === 'Literal' && typeof node['value'] === 'string' ? node['value'] : undefined;
const nameOf = (node: unknown): string | undefined =>
  isNode(node) && node.type === 'Identifier' ? (node['name'] as string) : undefined;

/** The name of a property that is written out, as `a.name` or `a['name']`. */
const propertyOf = (node: Node): string | undefined =>
  node['computed'] === true ? textOf(node['property']) : nameOf(node['property']);

/** The path of the linted file from the root; a block of a Svelte file (`page.svelte/0.ts`) counts as that file. */
function pathFromRoot(context: Rule.RuleContext): string {
  const relative = path.relative(root, context.filename).split(path.sep).join('/');
  return relative.replace(/(\.svelte)\/.*$/, '$1');
}

// ── who may import whom ─────────────────────────────────────────────────────────────────────────────────────────────

const isUnder = (file: string, entry: string): boolean =>
  entry.endsWith('/') ? file.startsWith(entry) : file === entry;

function layerOf(file: string): Layer | undefined {
  let best: Layer | undefined;
  let longest = -1;
  for (const layer of coreLayers) {
    for (const entry of layer.paths) {
      if (entry.length > longest && isUnder(file, entry)) [best, longest] = [layer, entry.length];
    }
  }
  return best;
}

const packageOf = (file: string): Package | undefined => packages.find((one) => file.startsWith(one.path));
const isTest = (file: string): boolean => /^(packages|apps)\/[^/]+\/(test|tests|bench)\//.test(file);

/** The names a package may be imported by: what `exports` of its package.json lists. */
function exportedNames(name: string): readonly string[] {
  const found = packages.find((one) => one.name === name);
  const file = found && path.join(root, found.path, 'package.json');
  if (file === undefined || !existsSync(file)) return [];
  const { exports = {} } = JSON.parse(readFileSync(file, 'utf8')) as { exports?: Record<string, unknown> };
  return Object.keys(exports).map((entry) => name + entry.slice(1));
}

/** Why `file` may not import `specifier`, or undefined when it may. */
export function refusal(file: string, specifier: string, typesOnly: boolean, isLazy = typesOnly): string | undefined {
  const from = packageOf(file);
  if (from === undefined || isTest(file)) return undefined;

  if (specifier.startsWith('.') || specifier.startsWith('/')) {
    const target = specifier.startsWith('/') ? specifier : path.posix.join(path.posix.dirname(file), specifier);
    if (!target.startsWith(from.path)) {
      const to = packageOf(target);
      return `${from.name} reaches into another folder (${specifier}). Import ${to?.name ?? 'a package'} by its name: only what a package exports is promised.`;
    }
    return file.startsWith(coreSource) ? refusalInCore(file, target, typesOnly) : undefined;
  }

  const layer = file.startsWith(coreSource) ? layerOf(file) : undefined;
  if (isBuiltin(specifier)) {
    const wanted = specifier.startsWith('node:') ? specifier : `node:${specifier}`;
    if (layer?.builtins === undefined || layer.builtins.includes(wanted)) return undefined;
    return `${layer.name} may not import ${wanted}: ${layer.why}.`;
  }

  const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
  if (name.startsWith('@meshhook/')) {
    if (!from.mayImport.includes(name)) {
      return `${from.name} may not import ${name}: scripts/eslint/layers.ts says which package builds on which.`;
    }
    const exported = exportedNames(name);
    if (exported.includes(specifier)) return undefined;
    return `${specifier} is inside ${name}. Import only what it exports (${exported.join(', ')}): the rest may change without notice.`;
  }
  if (name === 'pg' || name.startsWith('pg-')) {
    if (from.queue === name) return undefined;
    if (from.mayImportPg && (layer === undefined || layer.packages?.includes(name))) return undefined;
    return from.mayImportPg
      ? `only db/ imports pg: everything else takes the Database of db/port.ts, so that a test can make any statement fail.`
      : `${from.name} may not import ${name}: it sees the database only through @meshhook/keyring, or the fence and the audit trail could be passed by.`;
  }
  if (file.startsWith(coreSource)) {
    if (layer?.packages?.includes(name)) {
      if (isLazy) return undefined;
      return `${specifier} is an optional peer: import it with loadClient and \`import()\`, or only types of it, so that nobody needs it who does not use it.`;
    }
    return `the core depends on nothing but Node and pg (${specifier}): every dependency of a program that holds keys is trusted with them.`;
  }
  return undefined;
}

function refusalInCore(file: string, target: string, typesOnly: boolean): string | undefined {
  if (!target.startsWith(coreSource)) return `the sources import only sources (${target}).`;
  const from = layerOf(file);
  const to = layerOf(target);
  if (from === undefined)
    return `${file} is in no layer, so it may import nothing: give it a row in scripts/eslint/layers.ts.`;
  if (to === undefined) return `${target} is in no layer: give it a row in scripts/eslint/layers.ts.`;
  if (from === to || from.mayImport.includes('*') || from.mayImport.includes(to.name)) return undefined;
  if (from.mayImportTypes?.includes(to.name)) {
    return typesOnly ? undefined : `${from.name} may import only types from ${to.name} (\`import type\`): ${from.why}.`;
  }
  return `${from.name} may not import ${to.name}: ${from.why}.`;
}

const layers: Rule.RuleModule = {
  meta: { type: 'problem', schema: [], messages: { refused: '{{why}}' } },
  create(context) {
    const file = pathFromRoot(context);
    const check = (node: Node, source: unknown, typesOnly: boolean, isLazy = typesOnly): void => {
      if (!isNode(source)) return;
      const specifier = textOf(source);
      const why =
        specifier !== undefined
          ? refusal(file, specifier, typesOnly, isLazy)
          : packageOf(file) && !isTest(file)
            ? 'write the path of an import out: one that is computed cannot be checked against the layers.'
            : undefined;
      if (why !== undefined) context.report({ node: asReported(node), messageId: 'refused', data: { why } });
    };
    const declared = (node: Node): void => {
      check(node, node['source'], node['importKind'] === 'type' || node['exportKind'] === 'type');
    };
    return listener({
      ImportDeclaration: declared,
      ExportNamedDeclaration: declared,
      ExportAllDeclaration: declared,
      ImportExpression: (node: Node) => {
        check(node, node['source'], false, true);
      },
      TSImportType: (node: Node) => {
        check(node, node['source'], true);
      },
      TSExternalModuleReference: (node: Node) => {
        check(node, node['expression'], false);
      },
      'CallExpression[callee.name="require"]': (node: Node) => {
        check(node, (node['arguments'] as Node[])[0], false);
      },
    });
  },
};

// ── the environment ─────────────────────────────────────────────────────────────────────────────────────────────────

const isProcess = (node: unknown): boolean =>
  nameOf(node) === 'process' || (isNode(node) && node.type === 'MemberExpression' && propertyOf(node) === 'process');

const takesEnv = (pattern: Node): boolean =>
  pattern.type === 'ObjectPattern' &&
  (pattern['properties'] as Node[]).some(({ key }) => nameOf(key) === 'env' || textOf(key) === 'env');

const environment: Rule.RuleModule = {
  meta: { type: 'problem', schema: [], messages: { refused: '{{why}}' } },
  create(context) {
    const file = pathFromRoot(context);
    const owner = packageOf(file);
    if (owner === undefined || isTest(file) || owner.readsEnvironment.includes(file)) return {};
    const why =
      owner.readsEnvironment.length === 0
        ? `a library reads no environment: what ${owner.name} needs comes in its options.`
        : `the environment is read in one file, ${owner.readsEnvironment[0] ?? ''}, so that every setting of the program is in one place.`;
    const report = (node: Node): void => {
      context.report({ node: asReported(node), messageId: 'refused', data: { why } });
    };
    return listener({
      MemberExpression(node: Node) {
        const property = propertyOf(node);
        if (property === 'env' && (isProcess(node['object']) || isImportMeta(node['object']))) report(node);
      },
      VariableDeclarator(node: Node) {
        if (isProcess(node['init']) && isNode(node['id']) && takesEnv(node['id'])) report(node);
      },
      ImportDeclaration(node: Node) {
        const source = textOf(node['source']) ?? '';
        const fromProcess = source === 'node:process' || source === 'process';
        const named = (node['specifiers'] as Node[]).some(({ imported }) => nameOf(imported) === 'env');
        if ((fromProcess && named) || source.startsWith('$env/')) report(node);
      },
    });
  },
};

const isImportMeta = (node: unknown): boolean => isNode(node) && node.type === 'MetaProperty';

// ── silenced tests ──────────────────────────────────────────────────────────────────────────────────────────────────

const testFunctions = new Set(['it', 'test', 'describe', 'suite', 'bench']);
const silencers = new Set(['only', 'skip', 'todo', 'fails']);

/** Is it `it`, `it.concurrent`, `describe.sequential.each`…? */
function isTestFunction(node: unknown): boolean {
  if (!isNode(node)) return false;
  if (node.type === 'MemberExpression') return isTestFunction(node['object']);
  if (node.type === 'CallExpression') return isTestFunction(node['callee']);
  return testFunctions.has(nameOf(node) ?? '');
}

const silencedTests: Rule.RuleModule = {
  meta: {
    type: 'problem',
    schema: [],
    messages: {
      silenced:
        '{{what}} takes tests out of the run without saying when they come back. Delete the test, mend it, or use `skipIf` with a condition that is checked and a reason that is printed.',
    },
  },
  create(context) {
    const report = (node: Node, what: string): void => {
      context.report({ node: asReported(node), messageId: 'silenced', data: { what } });
    };
    return listener({
      MemberExpression(node: Node) {
        const property = propertyOf(node);
        if (property !== undefined && silencers.has(property) && isTestFunction(node['object']))
          report(node, `.${property}`);
      },
      CallExpression(node: Node) {
        const callee = nameOf(node['callee']);
        if (callee !== undefined && /^([xf](it|test|describe))$/.test(callee)) report(node, callee);
        if (!isTestFunction(node['callee'])) return;
        for (const argument of node['arguments'] as Node[]) {
          if (argument.type !== 'ObjectExpression') continue;
          for (const property of argument['properties'] as Node[]) {
            const name = nameOf(property['key']) ?? textOf(property['key']) ?? '';
            const value = property['value'];
            if (silencers.has(name) && isNode(value) && value['value'] !== false) report(property, name);
          }
        }
      },
    });
  },
};

// ── Svelte ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const scriptBlock = /<script\b[^>]*>([\s\S]*?)<\/script>/g;

export const meshhook = {
  rules: { layers, environment, 'silenced-tests': silencedTests },
  processors: {
    /** Lints the scripts of a Svelte file as TypeScript, at the lines where they stand. Markup is the compiler's. */
    svelte: {
      preprocess(text: string) {
        return [...text.matchAll(scriptBlock)].map((match, index) => {
          const start = match.index + match[0].indexOf('>') + 1;
          const blank = text.slice(0, start).replace(/[^\n]/g, ' ');
          return { text: blank + (match[1] ?? ''), filename: `${String(index)}.ts` };
        });
      },
      postprocess: (
        messages: Parameters<NonNullable<NonNullable<ESLint.Plugin['processors']>[string]['postprocess']>>[0],
      ) => messages.flat(),
    },
  },
} satisfies ESLint.Plugin;
