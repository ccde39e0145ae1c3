import { Failure } from '../../shared/errors.ts';
import {
  MAX_MANIFEST_BYTES,
  MAX_REQUEST_BYTES,
  MAX_SESSION_FILE_BYTES,
  MAX_SESSION_TTL_SECONDS,
  MAX_TERMINAL_OUTPUT_BYTES,
  SESSION_FILES_TIMEOUT_MS,
} from '../../shared/limits.ts';
import type { StartBody } from '../../shared/messages.ts';
import type { RunnerSessionWork, SessionWork } from '../../shared/session-messages.ts';
import { mbToBytes, type Template } from '../../shared/template.ts';
import type { Pool } from '../pool/pool.ts';
import type { RunnerStartBody } from '../runner/messages.ts';
import { SESSION_TTL_GRACE_SECONDS } from '../sessions/runner-term.ts';
import { boundedTtlMs } from '../sessions/session.ts';

/** The agent's own word on one START. */
export type Admission = {
  readonly pool: Pool;
  readonly body: RunnerStartBody;
  /** Manifest, code, stdin and files together. */
  readonly inputBytes: number;
};

export type AdmissionPolicy = {
  /** The pool of a cluster's template; undefined where there is none of that name. */
  findPool: (cluster: string, template: string) => Pool | undefined;
  hasCluster: (cluster: string) => boolean;
  /** Ceiling of what a START may ask to have sent back, per stream. */
  maxOutputBytes: number;
};

/**
 * Checks a START against the agent's policy and lowers its limits to the template's. Throws the Failure to refuse with.
 * `sessionPool`: of the session whose work it is.
 */
export function admit(start: StartBody, policy: AdmissionPolicy, sessionPool?: Pool): Admission {
  const pool = sessionPool ?? policy.findPool(start.cluster, start.template);
  if (!pool) throw unknownPlace(start, policy);
  const { template } = pool;
  if (
    start.session?.do !== 'open' &&
    start.session?.do !== 'files' &&
    !template.languages.includes(start.language)
  )
    throw new Failure(
      'no_language',
      `Template '${template.name}' does not offer ${start.language}, only ${template.languages.join(', ')}.`,
    );
  const isRich = start.rich === true && !start.session;
  if (isRich && start.language !== 'python')
    throw new Failure('no_language', `Results of ${start.language} cannot be had: rich is for python.`);
  return {
    pool,
    inputBytes: checkSizes(start, template),
    body: {
      language: start.language,
      last_line_interactive: start.last_line_interactive,
      traceparent: start.traceparent,
      request_id: start.request_id,
      sizes: start.sizes,
      limits: limitsOf(start, template, policy),
      collect: start.session === undefined,
      ...(start.session && { session: runnerWork(start.session) }),
      ...(isRich && { rich: true }),
    },
  };
}

function runnerWork(work: SessionWork): RunnerSessionWork {
  if (work.do === 'open')
    return {
      do: 'open',
      ttl_seconds: Math.ceil(boundedTtlMs(work.ttl_ms) / 1_000) + SESSION_TTL_GRACE_SECONDS,
    };
  if (work.do === 'terminal') return { do: 'terminal', rows: work.rows, columns: work.columns };
  const { id: _, ...rest } = work;
  return rest;
}

/**
 * What a request about files sends back is files, not output, and takes as long as they are large. A terminal lasts until
 * its session ends or nobody uses it.
 */
function limitsOf(
  { session, limits }: StartBody,
  template: Template,
  policy: AdmissionPolicy,
): RunnerStartBody['limits'] {
  if (session?.do === 'files')
    return {
      ...lowered(limits, template, MAX_SESSION_FILE_BYTES),
      timeout_ms: SESSION_FILES_TIMEOUT_MS,
    };
  if (session?.do === 'terminal')
    return {
      ...lowered(limits, template, MAX_TERMINAL_OUTPUT_BYTES),
      timeout_ms: MAX_SESSION_TTL_SECONDS * 1_000,
    };
  return lowered(limits, template, policy.maxOutputBytes);
}

function unknownPlace({ cluster, template }: StartBody, policy: AdmissionPolicy): Failure {
  return policy.hasCluster(cluster)
    ? new Failure('no_template', `Cluster '${cluster}' has no template '${template}'.`)
    : new Failure('no_cluster', `This agent does not serve cluster '${cluster}'.`);
}

function checkSizes({ sizes, session }: StartBody, template: Template): number {
  const stdin = sizes.stdin ?? 0;
  const workspaceBytes = mbToBytes(template.resources.workspace_mb);
  const fed: [has: string, size: number, max: number] =
    session?.do === 'files'
      ? ['The archive has', stdin, workspaceBytes]
      : ['Standard input has', stdin, MAX_REQUEST_BYTES];
  const bounds: (typeof fed)[] = [
    ['Arguments, environment and names of files have', sizes.manifest, MAX_MANIFEST_BYTES],
    ['The code has', sizes.code, MAX_REQUEST_BYTES],
    fed,
    ['The files have', sizes.files, workspaceBytes],
  ];
  for (const [has, size, max] of bounds) {
    if (size > max) throw new Failure('too_large', `${has} ${size} bytes; ${max} is the most here.`);
  }
  return sizes.manifest + sizes.code + stdin + sizes.files;
}

function lowered(
  limits: StartBody['limits'],
  { resources }: Template,
  maxOutputBytes: number,
): RunnerStartBody['limits'] {
  return {
    timeout_ms: Math.min(limits.timeout_ms, resources.timeout_ms),
    max_output_bytes: Math.min(limits.max_output_bytes, maxOutputBytes),
    memory_bytes: mbToBytes(Math.min(limits.memory_mb ?? resources.memory_mb, resources.memory_mb)),
    cpu_seconds: Math.min(limits.cpu_seconds ?? resources.cpu_seconds, resources.cpu_seconds),
    output_limit_bytes: limits.output_limit_bytes,
  };
}
