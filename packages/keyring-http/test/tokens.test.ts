import { describe, expect, it } from 'vitest';
import { keyringHandler, tokenDigest, type ApiToken } from '../src/index.ts';
import { bearerToken, findToken } from '../src/access/configured-tokens.ts';

const token = (name: string, value: string): ApiToken => ({ name, digest: tokenDigest(value), scopes: ['read'] });

describe('tokens', () => {
  it('a token is found by its digest, wherever it is in the list, and a near miss is not', () => {
    const tokens = [token('one', 'mhk_one'), token('two', 'mhk_two'), token('three', 'mhk_three')];
    for (const { name } of tokens) expect(findToken(tokens, `mhk_${name}`)?.name).toBe(name);
    for (const wrong of ['', 'mhk_', 'mhk_on', 'mhk_onee', 'MHK_ONE', 'mhk_one ', tokenDigest('mhk_one')]) {
      expect(findToken(tokens, wrong)).toBeUndefined();
    }
    expect(findToken([], 'mhk_one')).toBeUndefined();
  });

  it('the digest is SHA-256 in hex (FIPS 180-4, "abc")', () => {
    expect(tokenDigest('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  });

  it.each([
    [undefined, undefined],
    ['', undefined],
    ['Bearer', undefined],
    ['Bearer ', undefined],
    ['Basic YTpi', undefined],
    ['Bearer a b', undefined],
    ['Bearer a,b', undefined],
    ['Bearer mhk_a-Z9', 'mhk_a-Z9'],
    ['bearer  abc==', 'abc=='],
  ])('the header %j holds %j', (header, expected) => {
    expect(bearerToken(header)).toBe(expected);
  });

  it('misuse is refused by name, before anything is served', () => {
    const keyring = {} as never;
    const good = token('one', 'mhk_one');
    const refused = (options: object, message: string): void => {
      expect(() => keyringHandler(options as never)).toThrow(new TypeError(message));
    };
    refused({ keyring, tokens: [], colour: 'red' }, 'unknown option: colour');
    refused({ tokens: [] }, 'missing option: keyring');
    refused({ keyring }, 'missing option: tokens');
    refused({ keyring, tokens: [good, good] }, 'two tokens are named "one"');
    refused({ keyring, tokens: [{ ...good, name: '' }] }, 'a token has no name');
    refused(
      { keyring, tokens: [{ ...good, digest: 'mhk_one' }] },
      'the digest of the token "one" is not a SHA-256 in lower-case hex: use tokenDigest()',
    );
    refused({ keyring, tokens: [{ ...good, scopes: ['admin'] }] }, 'the token "one" has an unknown scope: admin');
  });
});
