import type { Distribution, MonitoringFacts, RotationKind } from '@meshhook/keyring';
import { Counter, Gauge, Registry, type Histogram } from 'prom-client';

/**
 * Facts in Prometheus' text format. A registry of its own each time: nothing is kept here, the history is in the database and the
 * process' own counters in the library. Labels are words of ours (kinds, states, codes, schemes): never a project, an id or a URI.
 */
export async function exposition({ process, database, audit, fleet }: MonitoringFacts): Promise<string> {
  const { gauge, counter, histogram, registry } = registered();

  gauge('keyring_info', 'The version of the library; always 1.', [{ labels: { version: process.version }, value: 1 }]);
  gauge('keyring_database_reachable', 'Whether the database answered within five seconds.', database ? 1 : 0);
  counter(
    'keyring_failed_looks_total',
    'Looks at the database for metrics that failed or took too long.',
    process.failedLooks,
  );
  counter('keyring_key_cache_hits_total', 'Data keys that were at hand unwrapped.', process.cacheHits);
  counter('keyring_key_cache_misses_total', 'Data keys that had to be read and unwrapped.', process.cacheMisses);
  counter(
    'keyring_fence_refusals_total',
    'Writes that the database refused because they came under a version that was no longer primary; they are repeated.',
    process.fenceRefusals,
  );
  gauge(
    'keyring_audit_chain_broken',
    'Whether sealing or verifying here last found that the trail is not as it was written.',
    process.auditBroken ? 1 : 0,
  );
  gauge(
    'keyring_audit_checkpoint_unkept',
    'Whether the last checkpoint of the trail could not be kept outside the database from here.',
    process.checkpointUnkept ? 1 : 0,
  );
  counter(
    'keyring_root_key_unwraps_total',
    'Wrapping keys that a root key unwrapped, by scheme.',
    process.rootKeys.map(({ scheme, unwrapped }) => ({ labels: { scheme }, value: unwrapped })),
  );
  counter(
    'keyring_root_key_failures_total',
    'Openings of a root key and unwraps with it that failed, by scheme and code.',
    process.rootKeys.flatMap(({ scheme, failures }) =>
      [...failures].map(([code, value]) => ({ labels: { scheme, code }, value })),
    ),
  );
  histogram(
    'keyring_root_key_unwrap_seconds',
    'How long unwrapping a wrapping key took, by scheme.',
    process.rootKeys.map(({ scheme, seconds }) => ({ labels: { scheme }, distribution: seconds })),
  );

  if (database !== undefined) {
    const { ended, open, secrets, quarantined, workers, instances, backups } = database;
    counter(
      'keyring_rotations_total',
      'Rotations that ended, over all of the history, by kind, trigger and outcome.',
      withZeros(ended).map(({ kind, trigger, outcome, seconds }) => ({
        labels: { kind, trigger, outcome },
        value: seconds.count,
      })),
    );
    histogram(
      'keyring_rotation_duration_seconds',
      'How long rotations that ended took, by kind and outcome.',
      ended.map(({ kind, trigger, outcome, seconds }) => ({
        labels: { kind, trigger, outcome },
        distribution: seconds,
      })),
    );
    gauge(
      'keyring_rotations_open',
      'Rotations that have not ended, by kind, trigger and state.',
      [...openStates.map((state) => ({ kind: 'data_key', trigger: 'manual', state, rotations: 0 })), ...open].map(
        ({ kind, trigger, state, rotations }) => ({ labels: { kind, trigger, state }, value: rotations }),
      ),
    );
    gauge(
      'keyring_rotations_undriven',
      'Open rotations that nobody alive drives and somebody should.',
      database.undriven,
    );
    gauge(
      'keyring_rotation_oldest_open_seconds',
      'Since the oldest open rotation was asked for; 0 without one.',
      database.oldestOpenSeconds,
    );
    gauge(
      'keyring_rotation_projects_open',
      'Projects of open rotations, by their state.',
      [...openProjectStates.map((state) => [state, 0] as const), ...Object.entries(database.openProjects)].map(
        ([state, value]) => ({ labels: { state }, value }),
      ),
    );
    counter(
      'keyring_secrets_reencrypted_total',
      'Secrets that rotations re-encrypted, over all of the history.',
      secrets.moved,
    );
    counter(
      'keyring_secrets_verified_total',
      'Secrets that rotations read back, over all of the history.',
      secrets.verified,
    );
    gauge('keyring_secrets_remaining', 'Secrets that open rotations still have to re-encrypt.', secrets.remaining);
    gauge(
      'keyring_quarantined_secrets',
      'Secrets that a rotation could not open, by reason.',
      [...quarantineReasons.map((reason) => [reason, 0] as const), ...Object.entries(quarantined)].map(
        ([reason, value]) => ({ labels: { reason }, value }),
      ),
    );
    gauge('keyring_workers', 'Workers, by whether they are alive; silent ones for an hour.', [
      { labels: { state: 'alive' }, value: workers.alive },
      { labels: { state: 'silent' }, value: workers.silent },
    ]);
    gauge(
      'keyring_instances',
      'Processes that hold the keyring open, by whether they are alive; silent ones for an hour.',
      [
        { labels: { state: 'alive' }, value: instances.alive },
        { labels: { state: 'silent' }, value: instances.silent },
      ],
    );
    gauge(
      'keyring_instances_without_a_root_key',
      'Live processes that were given a root key which they cannot use.',
      instances.troubled,
    );
    gauge('keyring_wrapping_keys_not_backed_up', 'Wrapping keys that no written backup holds.', backups.missing);
    gauge(
      'keyring_backup_written_timestamp_seconds',
      'When a backup was last written; 0: never.',
      epoch(backups.lastWrittenAt),
    );
    gauge(
      'keyring_backup_verified_timestamp_seconds',
      'When a backup was last verified; 0: never.',
      epoch(backups.lastVerifiedAt),
    );
  }
  if (audit !== undefined) {
    gauge('keyring_audit_lag_seconds', 'Age of the oldest entry that has no place in the chain yet.', audit.lagSeconds);
    gauge('keyring_audit_unsealed_entries', 'Entries that have no place in the chain yet.', audit.unsealed.entries);
    counter('keyring_audit_sealed_entries_total', 'Entries that the last checkpoint is signed over.', audit.size);
    gauge(
      'keyring_audit_checkpoint_timestamp_seconds',
      'When the last checkpoint was signed; 0: never.',
      epoch(audit.lastCheckpointAt),
    );
    const { whole, recent } = audit.verified;
    const stands = whole?.problem !== undefined;
    gauge(
      'keyring_audit_verified_timestamp_seconds',
      'When the trail was last verified and found as it was written; 0: never, or what was found stands.',
      Object.entries({ whole, recent }).map(([scope, look]) => ({
        labels: { scope },
        value: epoch(stands ? undefined : look?.at),
      })),
    );
  }
  if (fleet !== undefined) {
    gauge('keyring_projects', 'Projects that have a key.', fleet.projects);
    gauge('keyring_oldest_key_age_seconds', 'Age of the oldest primary version.', fleet.oldestKeySeconds);
    gauge('keyring_projects_due', 'Projects whose policy wants a rotation now.', fleet.due);
    gauge(
      'keyring_projects_overdue',
      'Projects that have been due for more than a day, or are nearly full.',
      fleet.overdue,
    );
    gauge('keyring_key_usage_ratio', 'Encryptions of the fullest primary version over 2^32.', fleet.usageRatio);
    gauge('keyring_fleet_age_seconds', 'How old the numbers are that take a look at every project.', fleet.ageSeconds);
  }
  return registry.metrics();
}

export const expositionType = Registry.PROMETHEUS_CONTENT_TYPE;

// A rule that looks for an increase needs the series from before the first of its kind.
const outcomes = ['completed', 'rolled_back', 'canceled', 'failed'] as const;
const triggers: Readonly<Record<RotationKind, readonly string[]>> = {
  data_key: ['manual', 'api', 'usage', 'schedule', 'compromise'],
  wrapping_key: ['manual', 'compromise'],
  root_key: ['manual', 'compromise'],
};
const openStates = ['requested', 'running', 'paused', 'blocked', 'rolling_back'];
const openProjectStates = ['requested', 'staged', 'sweeping', 'verifying', 'blocked', 'rolling_back'];
const quarantineReasons = ['does_not_open', 'malformed', 'unknown_key', 'key_unavailable'];

type Ended = NonNullable<MonitoringFacts['database']>['ended'];

function withZeros(ended: Ended): Ended {
  const none: Distribution = { bounds: [], counts: [], count: 0, sum: 0 };
  const zeros = (Object.keys(triggers) as RotationKind[]).flatMap((kind) =>
    triggers[kind].flatMap((trigger) => outcomes.map((outcome) => ({ kind, trigger, outcome, seconds: none }))),
  );
  return [...zeros, ...ended];
}

function epoch(date: Date | undefined): number {
  return date === undefined ? 0 : date.getTime() / 1_000;
}

interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Distributed {
  readonly labels: Readonly<Record<string, string>>;
  readonly distribution: Distribution;
}

function registered() {
  const registry = new Registry();
  const samples = (given: number | readonly Sample[]): readonly Sample[] =>
    typeof given === 'number' ? [{ labels: {}, value: given }] : given;
  const labelNames = (given: readonly { readonly labels: object }[]): string[] => [
    ...new Set(given.flatMap(({ labels }) => Object.keys(labels))),
  ];
  return {
    registry,
    gauge: (name: string, help: string, given: number | readonly Sample[]): void => {
      const all = samples(given);
      const metric = new Gauge({ name, help, labelNames: labelNames(all), registers: [registry] });
      for (const { labels, value } of all) metric.set(labels, value);
    },
    counter: (name: string, help: string, given: number | readonly Sample[]): void => {
      const all = samples(given);
      const metric = new Counter({ name, help, labelNames: labelNames(all), registers: [registry] });
      for (const { labels, value } of all) metric.inc(labels, value);
    },
    /** One that was counted elsewhere: prom-client's own takes observations only. */
    histogram: (name: string, help: string, all: readonly Distributed[]): void => {
      const values = all.flatMap(({ labels, distribution: { bounds, counts, count, sum } }) => [
        ...bounds.map((le, at) => ({
          labels: { ...labels, le },
          value: counts[at] ?? 0,
          metricName: `${name}_bucket`,
        })),
        { labels: { ...labels, le: '+Inf' }, value: count, metricName: `${name}_bucket` },
        { labels, value: sum, metricName: `${name}_sum` },
        { labels, value: count, metricName: `${name}_count` },
      ]);
      const metric = { name, help, type: 'histogram', aggregator: 'sum', values };
      registry.registerMetric({ name, get: () => Promise.resolve(metric) } as unknown as Histogram);
    },
  };
}
