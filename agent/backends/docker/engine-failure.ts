import { type ErrorCode, Failure } from '../../../shared/errors.ts';

/** The engine said no. `words` are its own: for the log, never for callers. */
export class EngineRefusal extends Failure {
  readonly httpStatus: number;
  readonly words: string;

  constructor(code: ErrorCode, detail: string, { httpStatus, words }: { httpStatus: number; words: string }) {
    super(code, detail, { cause: new Error(`${httpStatus}: ${words}`) });
    this.httpStatus = httpStatus;
    this.words = words;
  }
}

export function isRefused(failure: unknown, httpStatus: number): failure is EngineRefusal {
  return failure instanceof EngineRefusal && failure.httpStatus === httpStatus;
}

/** Whether the same call may succeed later as it was. */
export function isPassing(failure: unknown): boolean {
  if (failure instanceof EngineRefusal) return failure.httpStatus === 409 || failure.httpStatus >= 500;
  return failure instanceof Failure && failure.code === 'backend_unavailable';
}

type Rule = readonly [status: number | null, words: RegExp, code: ErrorCode, detail: string];

/** In order; the first that fits counts. Statuses differ between engines and their versions: the words decide. */
const RULES: readonly Rule[] = [
  [
    null,
    /no space left on device|disk quota exceeded|not enough space/i,
    'unschedulable',
    "The engine's disk is full.",
  ],
  [
    null,
    /cannot allocate memory|resource temporarily unavailable|too many open files|no more processes/i,
    'unschedulable',
    "The engine's machine has no room for another sandbox.",
  ],
  [
    null,
    /no such image|image not known|manifest unknown|pull access denied|repository does not exist|failed to resolve reference/i,
    'image_error',
    "The engine does not have the template's image: 'podgate images pull' fetches it.",
  ],
  [
    null,
    /unknown (or invalid )?runtime|OCI runtime "?\S+"? (is not available|not found)|failed to start shim|fork\/exec \S+: no such file/i,
    'isolation_failed',
    'The engine does not have the runtime that the template names, or its own default.',
  ],
  [
    null,
    /executable file .*not found|exec: "|exec format error|exec \S+: permission denied|creating process: failed to load /i,
    'image_error',
    "The template's image has no interpreter that can be started.",
  ],
  [
    null,
    /no such container|container .*(is not running|is dead|is restarting|is paused|marked for removal)|container state improper|can only create exec sessions on running/i,
    'sandbox_lost',
    'The sandbox is gone.',
  ],
  [
    null,
    /(unknown|invalid) mount option/i,
    'isolation_failed',
    'The engine refuses the mounts that sandboxes need.',
  ],
  [
    null,
    /cgroups in hybrid mode not supported/i,
    'isolation_failed',
    "The engine's runtime makes no control groups where both versions are mounted: runc does.",
  ],
  [
    null,
    /setrlimit.*not permitted|rlimit type \d+: operation not permitted/i,
    'policy_denied',
    'The engine may not give containers limits as high as the template asks for.',
  ],
  [
    400,
    /HTTP request to an HTTPS server/i,
    'backend_unavailable',
    'The engine wants TLS: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH.',
  ],
  [404, /./s, 'backend_unavailable', 'The engine does not know what it was asked for.'],
  [403, /(?:)/, 'policy_denied', "An authorization plugin of the engine refuses the template's container."],
  [409, /(?:)/, 'backend_unavailable', 'Another change to the container came first.'],
  [
    400,
    /(?:)/,
    'policy_denied',
    "The engine finds the template's container invalid: its own words are in the agent's log.",
  ],
];

/** A refusal as one code and one sentence. */
export function refusalOf(httpStatus: number, words: string): EngineRefusal {
  const rule = RULES.find(
    ([status, pattern]) => (status ?? httpStatus) === httpStatus && pattern.test(words),
  );
  const [, , code, detail] = rule ?? [0, /./, 'backend_unavailable', `The engine answered ${httpStatus}.`];
  return new EngineRefusal(code as ErrorCode, detail, { httpStatus, words });
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket',
  EACCES: 'the agent may not use its socket',
  ECONNREFUSED: 'nothing listens there',
  ENOTFOUND: 'there is no such host',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is not of ca.pem',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is not of ca.pem',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is not of ca.pem',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is not of ca.pem',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another host',
};

/** There was no answer. */
export function unreachable(cause: unknown): Failure {
  const { code, name } = (cause ?? {}) as { code?: unknown; name?: unknown };
  if (name === 'TimeoutError')
    return new Failure('backend_unavailable', 'The engine did not answer in time.', { cause });
  const reason = typeof code === 'string' ? REASONS[code] : undefined;
  const detail = `The engine cannot be reached${reason === undefined ? '' : `: ${reason}`}.`;
  return new Failure('backend_unavailable', detail, { cause });
}
