import * as z from 'zod';

export const LANGUAGES = ['python', 'bash', 'node'] as const;
export type Language = (typeof LANGUAGES)[number];

const MIB = 1_048_576;

const labelText = z.string().max(253);

/** What a pod has beyond any sandbox. Names are Kubernetes' own in snake_case; other backends pass them over. */
const kubernetesOptions = z.strictObject({
  /** What runner and preloaded modules take, on top of the program's memory and the tmpfs volumes. */
  base_memory_mb: z.int().min(16).max(1_048_576).default(64),
  /** Size of /dev/shm. */
  shm_mb: z.int().min(1).max(1_048_576).default(16),
  /** The cluster ends a pod at this age and a longest session's and execution's time on top. */
  max_age_seconds: z.int().min(60).max(604_800).default(3600),
  /** What the scheduler reserves. Absent: a tenth of the CPUs, and the memory that the program may use. */
  requests: z
    .strictObject({
      cpus: z.number().min(0.001).max(256).optional(),
      memory_mb: z.int().min(1).max(1_048_576).optional(),
    })
    .prefault({}),
  /** `platform` leaves the UID to a platform that assigns its own. */
  assign_uid: z.enum(['podgate', 'platform']).default('podgate'),
  /** False gives the pod a user namespace, where the cluster has them. */
  host_users: z.boolean().optional(),
  image_pull_policy: z.enum(['Always', 'IfNotPresent', 'Never']).optional(),
  image_pull_secrets: z.array(z.string().min(1).max(253)).max(16).default([]),
  service_account: z.string().min(1).max(253).optional(),
  node_selector: z.record(labelText, labelText).default({}),
  tolerations: z
    .array(
      z.strictObject({
        key: labelText.optional(),
        operator: z.enum(['Equal', 'Exists']).optional(),
        value: labelText.optional(),
        effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']).optional(),
        toleration_seconds: z.int().min(0).optional(),
      }),
    )
    .max(64)
    .default([]),
  /** As in a pod's specification; the cluster checks it. */
  affinity: z.record(z.string(), z.unknown()).optional(),
  priority_class: z.string().min(1).max(253).optional(),
  runtime_class: z.string().min(1).max(253).optional(),
  scheduler: z.string().min(1).max(253).optional(),
  annotations: z.record(labelText, z.string().max(65_536)).default({}),
});

/** What a container has beyond any sandbox; other backends pass it over. */
const dockerOptions = z.strictObject({
  /** What runner and preloaded modules take, on top of the program's memory and the tmpfs mounts. */
  base_memory_mb: z.int().min(16).max(1_048_576).default(64),
  /** Size of /dev/shm. */
  shm_mb: z.int().min(1).max(1_048_576).default(16),
  /** The engine's runtime for it, such as `runsc`. Absent: the engine's default. */
  runtime: z.string().min(1).max(253).optional(),
});

/** What a sandbox of the local backend has beyond any; other backends pass it over. */
const localOptions = z.strictObject({
  /** What runner and preloaded modules take, on top of the program's memory and the tmpfs mounts, in a control group. */
  base_memory_mb: z.int().min(16).max(1_048_576).default(64),
});

/**
 * A named sandbox definition, owned by the agent. Callers name it and may lower its limits; they never choose an
 * image, a namespace or a network. Sizes are MB of 1,048,576 bytes.
 */
export const templateSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'use 1 to 63 of a-z, 0-9 and -'),
  /** Container image; the local backend has none. */
  image: z.string().min(1).max(512).optional(),
  languages: z.array(z.enum(LANGUAGES)).min(1).default(['python']),
  /** Python modules that the zygote has imported before code arrives. */
  preload: z
    .array(z.string().regex(/^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$/, 'use dotted module names'))
    .max(64)
    .default([]),
  /** Interpreter to use, where PATH does not lead to the wanted one. */
  python: z.string().startsWith('/').max(512).optional(),
  resources: z
    .strictObject({
      memory_mb: z.int().min(16).max(1_048_576).default(256),
      cpu_seconds: z.int().min(1).max(86_400).default(5),
      cpus: z.number().min(0.05).max(256).default(1),
      processes: z.int().min(1).max(32_768).default(128),
      open_files: z.int().min(16).max(1_048_576).default(256),
      file_mb: z.int().min(1).max(1_048_576).default(64),
      workspace_mb: z.int().min(1).max(1_048_576).default(64),
      tmp_mb: z.int().min(1).max(1_048_576).default(64),
      timeout_ms: z.int().min(1).max(86_400_000).default(60_000),
    })
    .prefault({}),
  pool: z
    .strictObject({ min: z.int().min(0).max(10_000).default(2), max: z.int().min(1).max(10_000).default(8) })
    .refine((pool) => pool.min <= pool.max, { error: 'pool.min must not exceed pool.max', path: ['min'] })
    .prefault({}),
  /** `single_use`: a new sandbox (locally: new namespaces) per execution. `reset`: cleaned and verified, same principal only. */
  reuse: z.enum(['single_use', 'reset']).default('single_use'),
  /** `none` is held by the runner's own filter, whatever the cluster's network does. */
  network: z.enum(['none', 'cluster']).default('none'),
  /** What must hold for the template to serve. `network_policy`: the cluster's network refuses by itself too. */
  require: z.array(z.enum(['seccomp', 'landlock', 'network_policy'])).default(['seccomp']),
  /** Fixes the sandbox's UID; without it each sandbox has its own from 65532 up where the backend can. */
  uid: z.int().min(1).max(2_147_483_646).optional(),
  kubernetes: kubernetesOptions.prefault({}),
  docker: dockerOptions.prefault({}),
  local: localOptions.prefault({}),
});

export type TemplateInput = z.input<typeof templateSchema>;
/** A checked template and the hash of everything in it. */
export type Template = z.output<typeof templateSchema> & { readonly hash: string };

/** Bytes in `mb` of the template's megabytes. */
export function mbToBytes(mb: number): number {
  return mb * MIB;
}

/** Parses a template and hashes it: equal definitions hash equal, whatever the order of their members. Throws ZodError. */
export async function parseTemplate(input: unknown): Promise<Template> {
  const template = templateSchema.parse(input);
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(canonical(template)));
  return {
    ...template,
    hash: [...new Uint8Array(digest, 0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join(''),
  };
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value !== null && typeof value === 'object') {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    members.sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(',')}}`;
  }
  return JSON.stringify(value);
}
