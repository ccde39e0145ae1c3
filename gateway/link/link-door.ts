import { MAX_PEERS } from '../../shared/limits.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { COMEBACK_MS } from '../clusters/instance.ts';
import { GatewayLink, type LinkDeps } from './gateway-link.ts';
import type { AcceptedLink, LinkSocketPort } from './link-socket.ts';

/** Agents wait this long before they dial again after GOAWAY; they add jitter. */
const RECONNECT_AFTER_MS = 1_000;

/** Takes sockets in and lets links go. Sockets whose agents have not been welcomed are bounded on their own. */
export class LinkDoor {
  readonly #deps: LinkDeps;
  readonly #directory: ClusterDirectory;
  readonly #pending = new Set<GatewayLink>();
  #draining = false;

  constructor(directory: ClusterDirectory, deps: LinkDeps) {
    this.#deps = deps;
    this.#directory = directory;
  }

  /** Links that have not been welcomed. */
  get pending(): number {
    return this.#pending.size;
  }

  get isFull(): boolean {
    return this.#draining || this.#pending.size >= this.#deps.config.maxPendingLinks;
  }

  accept(socket: LinkSocketPort): AcceptedLink {
    const directory = this.#directory;
    const link = new GatewayLink(
      socket,
      {
        join: (joining, hello) => {
          this.#pending.delete(joining);
          if (this.#draining) return 'draining';
          const refusal = directory.join(joining, hello.peers);
          const { sub, tenant } = joining.agent;
          const { instance, software } = hello;
          this.#deps.log(
            refusal
              ? { level: 'warn', event: 'link_refused', code: refusal, tenant, sub, instance }
              : { level: 'info', event: 'link_joined', tenant, sub, instance, software },
          );
          return refusal;
        },
        peers: ({ agent, instance }) =>
          directory
            .peers(agent, COMEBACK_MS)
            .filter((name) => name !== instance)
            .slice(0, MAX_PEERS),
        slots: (from, body) => directory.slots(from, body),
        drain: (from) => directory.drain(from),
        leave: (leaving) => {
          this.#pending.delete(leaving);
          // One that was refused, or said nothing, was not there.
          if (!leaving.instance || !directory.leave(leaving)) return;
          const { tenant } = leaving.agent;
          this.#deps.log({ level: 'info', event: 'link_left', tenant, instance: leaving.instance });
        },
      },
      this.#deps,
    );
    this.#pending.add(link);
    return link;
  }

  /** No new work on any link: agents bring up replacements elsewhere. */
  drain(deadlineMs: number): void {
    this.#draining = true;
    for (const link of [...this.#pending]) link.close('draining');
    for (const link of this.#directory.allLinks()) link.goAway(deadlineMs, RECONNECT_AFTER_MS);
  }

  close(): void {
    this.#draining = true;
    for (const link of [...this.#pending, ...this.#directory.allLinks()]) link.close('draining');
  }
}
