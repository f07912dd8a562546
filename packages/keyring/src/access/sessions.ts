import type { Sessions } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { transaction, type Database } from '../db/port.ts';
import { OPERATOR, requirePerson } from './person.ts';
import { isToken, newToken, tokenDigest } from './random-token.ts';
import {
  deleteExpired,
  deleteSession,
  insertLink,
  insertSession,
  selectSession,
  takeLink,
  updateSeen,
} from './session-store.ts';

/** Sign-in links and the sessions they become. Of either only a digest is kept. */
export function sessions(database: Database, audit: AuditTrail): Sessions {
  return {
    async createLink({ person = OPERATOR } = {}) {
      requirePerson(person);
      const secret = newToken('link');
      const expiresAt = await transaction(database, async (tx) => {
        await deleteExpired(tx);
        const until = await insertLink(tx, tokenDigest(secret), person);
        await audit.record(tx, { action: 'session.link_made', subject: `person:${person}` });
        return until;
      });
      return { secret, expiresAt };
    },
    async open(linkSecret) {
      if (!isToken('link', linkSecret)) return undefined;
      const secret = newToken('session');
      const session = await transaction(database, async (tx) => {
        const person = await takeLink(tx, tokenDigest(linkSecret));
        if (person === undefined) return undefined;
        const opened = await insertSession(tx, tokenDigest(secret), person);
        await audit.record(tx, { action: 'session.opened', subject: `session:${opened.id}`, details: { person } });
        return opened;
      });
      return session && { secret, session };
    },
    async find(secret, { seen = true } = {}) {
      if (!isToken('session', secret)) return undefined;
      const found = await selectSession(database, tokenDigest(secret));
      if (found === undefined) return undefined;
      const { unseen, ...session } = found;
      if (seen && unseen) await updateSeen(database, session.id);
      return session;
    },
    async end(secret) {
      if (!isToken('session', secret)) return;
      await transaction(database, async (tx) => {
        const ended = await deleteSession(tx, tokenDigest(secret));
        if (ended === undefined) return;
        const { id, person } = ended;
        await audit.record(tx, { action: 'session.ended', subject: `session:${id}`, details: { person } });
      });
    },
  };
}
