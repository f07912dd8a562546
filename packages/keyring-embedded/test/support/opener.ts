/** A process that opens the host of the home it is given and a keyring on it, and tells what it made and what it reads. */
import { openKeyring } from '@meshhook/keyring';
import { openHost } from '../../src/index.ts';

const host = await openHost({ home: process.argv[2] ?? '' });
const keyring = await openKeyring({ database: host.databaseUrl, rootKey: host.rootKeyUri });
const [first] = await keyring.projects.list();
const project = first ?? (await keyring.projects.create({ name: 'shared' }));
await keyring.secrets.put(project.id, 'SHARED', 'the same for all');
const secret = await keyring.secrets.get(project.id, 'SHARED');
console.log(JSON.stringify({ made: host.made.map(({ what }) => what), secret: secret?.value }));
await keyring.close();
await host.close();
