import fc from 'fast-check';
import type { Parameter, Route, Schema, Schemas } from './description.ts';

/** Requests made from the description: those that fit it, and those that do not. */

export interface Asked {
  readonly what: string;
  readonly method: string;
  readonly target: string;
  readonly body?: Uint8Array | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

/** Ids and names that exist, so that requests meet something. */
export interface Known {
  readonly ids: readonly string[];
  readonly names: readonly string[];
}

const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const jsonType = { 'content-type': 'application/json' };

export class Requests {
  readonly schemas: Schemas;
  readonly known: Known;

  constructor(schemas: Schemas, known: Known) {
    this.schemas = schemas;
    this.known = known;
  }

  /** A request that its route's description allows. */
  fitting(route: Route): fc.Arbitrary<Asked> {
    const { operation, method } = route;
    const body = operation.requestBody;
    return fc
      .record({
        target: this.#target(route),
        headers: this.#parameters(operation.parameters, 'header'),
        body: body === undefined ? fc.constant(undefined) : this.value(body.content['application/json'].schema),
      })
      .map(({ target, headers, body: value }) => ({
        what: 'fitting',
        method,
        target,
        headers: { ...headers, ...(value === undefined ? {} : jsonType) },
        body: value === undefined ? undefined : json(value),
      }));
  }

  value(given: Schema): fc.Arbitrary<unknown> {
    const schema = this.schemas.resolve(given);
    if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
    if (schema.const !== undefined) return fc.constant(schema.const);
    const choices = schema.anyOf ?? schema.oneOf;
    if (choices !== undefined && schema.properties === undefined)
      return fc.oneof(...choices.map((one) => this.value(one)));
    // Of a named shape, with a description of its own.
    if (schema.allOf !== undefined) return this.value(schema.allOf[0] ?? {});
    if (schema.type === undefined) return fc.jsonValue();
    const types = typeof schema.type === 'string' ? [schema.type] : schema.type;
    return fc.oneof(...types.map((type) => this.#typed(type, schema)));
  }

  #typed(type: string, schema: Schema): fc.Arbitrary<unknown> {
    if (type === 'null') return fc.constant(null);
    if (type === 'boolean') return fc.boolean();
    if (type === 'integer' || type === 'number') return this.#number(schema);
    if (type === 'string') return this.#string(schema);
    if (type === 'array') {
      const item = schema.items === undefined ? fc.constant(0) : this.value(schema.items);
      return fc.array(item, { minLength: schema.minItems ?? 0, maxLength: Math.min(schema.maxItems ?? 3, 3) });
    }
    return this.#object(schema);
  }

  #number({ minimum, exclusiveMinimum, maximum = 1000 }: Schema): fc.Arbitrary<number> {
    const least = minimum ?? (exclusiveMinimum === undefined ? 0 : exclusiveMinimum + 1);
    return fc.integer({ min: least, max: Math.min(maximum, least + 1000) });
  }

  #string({ format, pattern, minLength = 0, maxLength = 40 }: Schema): fc.Arbitrary<string> {
    if (format === 'uuid') return fc.oneof(fc.constantFrom(...this.known.ids), fc.uuid());
    if (format === 'date-time')
      return fc.date({ noInvalidDate: true, min: new Date(0), max: new Date(4e12) }).map((date) => date.toISOString());
    if (pattern !== undefined) return fc.stringMatching(new RegExp(pattern, 'u'), { maxLength: 40 });
    const length = { minLength, maxLength: Math.min(maxLength, minLength + 30) };
    return fc.oneof(
      fc.constantFrom(...this.known.names),
      fc.string(length),
      fc.string({ unit: 'grapheme', ...length }),
    );
  }

  /** One of the alternatives of what it requires, and then any of the rest. */
  #object({ properties = {}, required = [], oneOf, anyOf }: Schema): fc.Arbitrary<unknown> {
    const wanted = (oneOf ?? anyOf ?? [{}]).map((one) => [...required, ...(one.required ?? [])]);
    return fc.oneof(
      ...wanted.map((names) => {
        const excluded = oneOf === undefined ? [] : oneOf.flatMap((one) => one.required ?? []);
        const left = Object.entries(properties).filter(([name]) => names.includes(name) || !excluded.includes(name));
        const model = Object.fromEntries(left.map(([name, schema]) => [name, this.value(schema)]));
        return fc.record(model, { requiredKeys: names });
      }),
    );
  }

  #target({ path, operation }: Route): fc.Arbitrary<string> {
    const ids = fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...this.known.ids) },
      { weight: 2, arbitrary: fc.constantFrom(...this.known.names) },
      { weight: 1, arbitrary: fc.uuid() },
      { weight: 1, arbitrary: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 50 }) },
    );
    const holes = path.split(/\{\w+\}/);
    return fc
      .tuple(
        fc.array(ids, { minLength: holes.length, maxLength: holes.length }),
        this.#parameters(operation.parameters, 'query'),
      )
      .map(([given, query]) => {
        const filled = holes.map((part, at) => (at === 0 ? part : `${segment(given[at - 1] ?? 'x')}${part}`)).join('');
        const search = new URLSearchParams(query).toString();
        return search === '' ? filled : `${filled}?${search}`;
      });
  }

  #parameters(parameters: readonly Parameter[] = [], where: Parameter['in']): fc.Arbitrary<Record<string, string>> {
    const model = parameters.filter((one) => one.in === where);
    return fc
      .record(Object.fromEntries(model.map(({ name, schema }) => [name, this.value(schema)])), { requiredKeys: [] })
      .map((values) => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)])));
  }

  /** A request that its route's description does not allow, in one way. */
  misfitting(route: Route): fc.Arbitrary<Asked> {
    const fitting = this.fitting(route);
    const ways = [
      this.#strangeQuery(fitting),
      this.#strangeTarget(fitting),
      this.#wrongMethod(fitting),
      this.#nobody(fitting),
    ];
    if (route.operation.requestBody === undefined) {
      if (route.method !== 'GET') ways.push(this.#unwantedBody(fitting));
    } else {
      const { schema } = route.operation.requestBody.content['application/json'];
      ways.push(
        this.#wrongValue(fitting, schema),
        this.#unknownField(fitting),
        this.#broken(fitting),
        this.#wrongType(fitting),
      );
      ways.push(this.#huge(fitting));
    }
    return fc.oneof(...ways);
  }

  #wrongValue(fitting: fc.Arbitrary<Asked>, schema: Schema): fc.Arbitrary<Asked> {
    const nasty = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom<unknown>(...injections, null, -1, 1e308, [], {}, '', 'x'.repeat(2000)),
    );
    const properties = Object.keys(this.schemas.resolve(schema).properties ?? {});
    const misnamed = fc
      .tuple(this.value(schema), fc.constantFrom('', ...properties), nasty)
      .map(([valid, name, bad]) => ({ ...(valid as object), [name]: bad }));
    const value = fc.oneof(nasty, misnamed);
    return fc
      .tuple(
        fitting,
        value.filter((one) => this.schemas.misfit(schema, one) !== undefined),
      )
      .map(([asked, wrong]) => ({ ...asked, what: 'wrong value', body: json(wrong) }));
  }

  #unknownField(fitting: fc.Arbitrary<Asked>): fc.Arbitrary<Asked> {
    const names = fc.oneof(
      fc.constantFrom('Reason', 'projectID', 'constructor', '__proto__', '$where', ' reason'),
      fc.string(),
    );
    return fc.tuple(fitting, names, fc.jsonValue()).map(([asked, name, value]) => {
      const text = new TextDecoder().decode(asked.body);
      const field = `${JSON.stringify(`x${name}`)}:${JSON.stringify(value)}`;
      const body = new TextEncoder().encode(text.replace(/^\{/, text === '{}' ? `{${field}` : `{${field},`));
      return { ...asked, what: 'unknown field', body };
    });
  }

  #broken(fitting: fc.Arbitrary<Asked>): fc.Arbitrary<Asked> {
    const breaks: ((body: Uint8Array) => Uint8Array)[] = [
      (body) => body.slice(0, -1),
      (body) => new Uint8Array([...body, 0x7d]),
      (body) => new Uint8Array([...body.slice(0, -1), 0xff, 0x7d]),
      (body) => new Uint8Array([0xc0, 0xaf, ...body]),
      (body) => new Uint8Array([...body].flatMap((byte) => [byte, 0])),
      () => new Uint8Array(),
      () => new TextEncoder().encode("{'reason':'x'}"),
      () => new TextEncoder().encode('NaN'),
      () => new Uint8Array([0xed, 0xa0, 0x80]),
      () => new TextEncoder().encode('['.repeat(20_000)),
    ];
    return fc
      .tuple(fitting, fc.constantFrom(...breaks))
      .map(([asked, breaking]) => ({ ...asked, what: 'broken JSON', body: breaking(asked.body ?? new Uint8Array()) }));
  }

  #wrongType(fitting: fc.Arbitrary<Asked>): fc.Arbitrary<Asked> {
    const types = [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/xml',
      'x',
    ];
    return fc
      .tuple(fitting, fc.constantFrom(...types))
      .map(([asked, type]) => ({ ...asked, what: 'wrong type', headers: { ...asked.headers, 'content-type': type } }));
  }

  #huge(fitting: fc.Arbitrary<Asked>): fc.Arbitrary<Asked> {
    return fitting.map((asked) => ({ ...asked, what: 'huge body', body: json({ reason: 'x'.repeat(600_000) }) }));
  }

  #unwantedBody(fitting: fc.Arbitrary<Asked>): fc.Arbitrary<Asked> {
    const bodies = fc.oneof(
      fc.json().map((text) => new TextEncoder().encode(text)),
      fc.uint8Array({ minLength: 1 }),
    );
    return fc
      .tuple(
        fitting,
        bodies.filter((body) => !/^\s*(\{\s*\})?\s*$/.test(new TextDecoder().decode(body))),
      )
      .map(([asked, body]) => ({ ...asked, what: 'unwanted body', headers: { ...asked.headers, ...jsonType }, body }));
  }

  #strangeQuery(fitting: fc.Arbitrary<Asked>): fc.Arbitrary<Asked> {
    const strange = fc.oneof(
      fc.constantFrom(
        'limit=0',
        'limit=-1',
        'limit=1e9',
        'limit=x',
        'limit=',
        'limit=1&limit=2',
        'cursor=%00',
        'cursor=%',
        'due=1',
      ),
      fc.constantFrom(...injections).map((text) => `${encodeURIComponent(text.toWellFormed())}=1`),
      fc.string({ minLength: 1 }).map((text) => `x${encodeURIComponent(text)}=${encodeURIComponent(text)}`),
    );
    return fc.tuple(fitting, strange).map(([asked, query]) => ({
      ...asked,
      what: 'strange query',
      target: `${asked.target}${asked.target.includes('?') ? '&' : '?'}${query}`,
    }));
  }

  /** Where there is nothing: paths that go on, that climb, and ids that are none. */
  #strangeTarget(fitting: fc.Arbitrary<Asked>): fc.Arbitrary<Asked> {
    const tails = ['/..%2f..%2fetc', '/%00', '//x', '/x/y/z', '/%c0%ae%c0%ae', ';a=b/x', '/'];
    return fc.tuple(fitting, fc.constantFrom(...tails)).map(([asked, tail]) => ({
      ...asked,
      what: 'strange path',
      target: `${asked.target.split('?')[0] ?? ''}${tail}`,
    }));
  }

  #wrongMethod(fitting: fc.Arbitrary<Asked>): fc.Arbitrary<Asked> {
    return fc
      .tuple(fitting, fc.constantFrom('PATCH', 'OPTIONS', 'QUERY', 'PROPFIND', 'get'))
      .map(([asked, method]) => ({ ...asked, what: 'wrong method', method: method === 'get' ? 'PATCH' : method }));
  }

  /** From somebody whom nobody knows. */
  #nobody(fitting: fc.Arbitrary<Asked>): fc.Arbitrary<Asked> {
    const headers = [
      '',
      'Bearer',
      'Bearer x',
      'Basic YTpi',
      `Bearer ${'x'.repeat(5000)}`,
      "Bearer ' or 1=1 --",
      'bearer mhk_admin2',
    ];
    return fc.tuple(fitting, fc.constantFrom(...headers)).map(([asked, authorization]) => ({
      ...asked,
      what: 'nobody',
      headers: { ...asked.headers, authorization },
    }));
  }
}

export const injections = [
  "'; drop table keyring.rotations; --",
  "1' or '1'='1",
  '$1',
  '${7*7}',
  '{{7*7}}',
  '../../../../etc/passwd',
  '<script>alert(1)</script>',
  '\u0000',
  '\u202e',
  '\ud800',
  '=cmd|calc!A0',
  '%s%n',
  '\r\nset-cookie: a=b',
];

/** As `encodeURIComponent`, which throws for half a surrogate pair; dots alone would climb. */
function segment(text: string): string {
  const encoded = encodeURIComponent(text.toWellFormed());
  return encoded === '.' || encoded === '..' ? 'dots' : encoded;
}
