import { matchesName } from '../../shared/claims.ts';
import { Failure } from '../../shared/errors.ts';
import { toBase64Url } from '../../shared/jose.ts';
import type { FromAgent } from '../../shared/messages.ts';
import type { AuthenticatedAgent } from '../auth/caller.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { LinkEvent, Proof } from './link-state.ts';
import { TokenWatch } from './token-watch.ts';

const NONCE_BYTES = 32;

export type LinkIdentityOptions = Pick<GatewayDeps, 'now' | 'random' | 'authenticator'> & {
  /** Takes `verified`, `refused`, `token_aging` and `token_ended`. */
  apply(event: LinkEvent): void;
};

/** Whose link it is: what an agent proves in HELLO and AUTH_REFRESH, and what its token allows while it lasts. */
export class LinkIdentity {
  readonly #options: LinkIdentityOptions;
  readonly #tokens: TokenWatch;
  #agent: AuthenticatedAgent | undefined;
  /** Clusters that were announced last: what renews the link has to allow them too. */
  #announced: readonly string[] = [];

  constructor(options: LinkIdentityOptions) {
    this.#options = options;
    this.#tokens = new TokenWatch(options.authenticator, () => options.apply({ type: 'token_ended' }));
  }

  /** Whose token opened the link. Only of a link that has joined. */
  get agent(): AuthenticatedAgent {
    if (this.#agent === undefined) throw new Error('the link has not joined');
    return this.#agent;
  }

  /** Takes over what a token says that holds from now on; `watch` says when it ends. */
  take(agent: AuthenticatedAgent): void {
    this.#agent = agent;
  }

  /** What the agent signs next. */
  nonce(): string {
    return toBase64Url(this.#options.random(NONCE_BYTES));
  }

  /** Checks token and proof, and that the token allows these clusters, and those that the link serves already. */
  async verify({ token, ...proof }: Proof, clusters: readonly string[]): Promise<void> {
    const { authenticator, apply } = this.#options;
    try {
      const agent = await authenticator.authenticateAgent(token, proof);
      const foreign = [...clusters, ...this.#announced].some((name) => !matchesName(agent.clusters, name));
      apply(foreign ? { type: 'refused', code: 'forbidden' } : { type: 'verified', agent });
    } catch (error) {
      const code = error instanceof Failure ? error.code : 'internal';
      apply({ type: 'refused', code });
    }
  }

  /** Watches the token that holds now, and no other. */
  watch(): void {
    this.#tokens.watch(this.agent, this.#options.now());
  }

  /** Asks for a newer token where one is due. False once the token has ended, and the link with it. */
  check(): boolean {
    const { now, apply } = this.#options;
    const token = this.#tokens.check(now());
    if (token === 'ended') apply({ type: 'token_ended' });
    else if (token === 'aging') apply({ type: 'token_aging', nonce: this.nonce() });
    return token !== 'ended';
  }

  /** Whether the token allows every cluster that is announced or granted. */
  allows({ clusters, grants }: FromAgent['SLOTS']): boolean {
    if (clusters) this.#announced = clusters.map(({ name }) => name);
    const names = [...this.#announced, ...grants.map(({ cluster }) => cluster)];
    return names.every((name) => matchesName(this.agent.clusters, name));
  }

  close(): void {
    this.#tokens.close();
  }
}
