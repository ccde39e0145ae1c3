import { Failure } from '../shared/errors.ts';
import { MAX_QUEUE, MAX_REQUESTS_IN_FLIGHT_BYTES, TENANT_SHARE } from '../shared/limits.ts';
import { requireKey } from './auth/watch-key.ts';
import { ClusterDirectory } from './clusters/cluster-directory.ts';
import { FROM_THE_START } from './execution/event-stream.ts';
import { ExecutionFollower, type FollowOrder } from './execution/execution-follower.ts';
import type { ExecutionOrder } from './execution/execution-order.ts';
import { ExecutionRun } from './execution/execution-run.ts';
import { KeyedExecutions, MAX_KEYS, outOfReach } from './execution/keyed-executions.ts';
import { openOwn } from './execution/own-execution.ts';
import { MAX_SHELF_BYTES, ResultShelf } from './execution/result-shelf.ts';
import type { GatewayDeps } from './gateway-deps.ts';
import type { RequestInfo } from './http/route.ts';
import { createRouter } from './http/router.ts';
import { LinkDoor } from './link/link-door.ts';
import type { AcceptedLink, LinkSocketPort } from './link/link-socket.ts';
import { MemoryBudget } from './memory-budget.ts';
import { SlotQueue } from './queue/slot-queue.ts';
import { createAgentRoutes } from './routes/agents.ts';
import { createClusterRoutes } from './routes/clusters.ts';
import { createExecuteRoutes } from './routes/execute.ts';
import { createExecutionRoutes } from './routes/executions.ts';
import { createFileRoutes } from './routes/files.ts';
import { createHealthRoutes } from './routes/health.ts';
import { createOpenapiRoute } from './routes/openapi.ts';
import { createProgramInputRoutes } from './routes/program-input.ts';
import { createSessionRoutes } from './routes/sessions.ts';
import { createTerminalDoor } from './terminals/terminal-door.ts';
import type { OpenedTerminal } from './terminals/terminal-socket.ts';

export type GatewayStatus = {
  version: string;
  draining: boolean;
  links: number;
  pendingLinks: number;
  /** Executions that have not ended. Those that wait for a slot are among them. */
  running: number;
  queued: number;
  requestBytes: number;
  outputBytes: number;
};

export type Gateway = {
  /** Answers one HTTP request. It never rejects. */
  fetch(request: Request, info?: RequestInfo): Promise<Response>;
  /** Whether another agent may dial in now; adapters answer 503 where not. */
  acceptsLinks(): boolean;
  /** Takes an upgraded WebSocket of the agents' endpoint; CHALLENGE goes out at once. */
  acceptLink(socket: LinkSocketPort): AcceptedLink;
  /** Opens a terminal of a session for a WebSocket; throws the Failure to refuse the upgrade with. */
  openTerminal(request: Request): Promise<OpenedTerminal>;
  /** Is not ready any more and takes no more agents; callers are served as before. */
  leave(): void;
  /** Refuses new work, lets what waits begin and what runs end, at most `deadlineMs`, then closes. */
  drain(deadlineMs: number): Promise<void>;
  /** Ends at once: executions fail with `draining`, links close with 4503. */
  close(): void;
  status(): GatewayStatus;
};

/** The gateway, on Web APIs alone: everything else comes in through `deps`. */
export function createGateway(deps: GatewayDeps): Gateway {
  const { config, now, elapsed, timers } = deps;
  const runs = new Set<ExecutionRun>();
  const { promise: idle, resolve: becomeIdle } = Promise.withResolvers<void>();
  const { promise: begun, resolve: allBegun } = Promise.withResolvers<void>();
  let leaving = false;
  let draining = false;
  let closed = false;
  const directory: ClusterDirectory = new ClusterDirectory({
    now,
    elapsed,
    maxLinksPerTenant: config.maxLinksPerTenant,
    onFreed: (tenant, at) => queue.freed(tenant, at),
  });
  const shareOf = (all: number) => (config.severalTenants ? Math.floor(all / TENANT_SHARE) : all);
  const queue = new SlotQueue(directory, timers, shareOf(MAX_QUEUE));
  const door = new LinkDoor(directory, deps);
  const requestMemory = new MemoryBudget(MAX_REQUESTS_IN_FLIGHT_BYTES, shareOf(MAX_REQUESTS_IN_FLIGHT_BYTES));
  const outputMemory = new MemoryBudget(config.outputMemoryBytes, shareOf(config.outputMemoryBytes));
  const shelf = new ResultShelf(elapsed, MAX_SHELF_BYTES, shareOf(MAX_SHELF_BYTES));
  const followers = new Set<ExecutionFollower>();
  /** Those of them whose readers ask another gateway for the rest. */
  const movable = new Set<ExecutionFollower>();
  const onOver = (run: ExecutionRun) => {
    runs.delete(run);
    lookAround();
  };

  /** While it drains: whether somebody waits still, or nothing is left that was not told. */
  function lookAround(): void {
    if (!draining) return;
    if (![...runs].some((run) => run.waiting)) allBegun();
    if (runs.size === 0 && movable.size === 0) becomeIdle();
  }

  function requireOpen(): void {
    if (draining) throw new Failure('draining', 'This gateway is shutting down; try again.');
  }

  function start(order: ExecutionOrder): ExecutionRun {
    requireOpen();
    requireKey(deps, order.wanted.caller);
    const run = new ExecutionRun(order, {
      ...deps,
      directory,
      queue,
      outputMemory,
      shelf,
      onSent: lookAround,
      onOver,
    });
    runs.add(run);
    return run;
  }

  function follow(order: FollowOrder): ExecutionFollower {
    requireOpen();
    requireKey(deps, order.caller);
    const follower = new ExecutionFollower(order, {
      ...deps,
      directory,
      outputMemory,
      shelf,
      onOver(each) {
        followers.delete(each);
        movable.delete(each);
        lookAround();
      },
    });
    followers.add(follower);
    return follower;
  }

  function followMovable(order: FollowOrder): ExecutionFollower {
    const follower = follow(order);
    movable.add(follower);
    return follower;
  }

  function sendAway(leaving: Iterable<ExecutionFollower>): void {
    for (const follower of [...leaving])
      follower.stop('draining', 'This gateway was shut down; ask another for the rest.');
  }

  const terminals = createTerminalDoor({ ...deps, directory, requireOpen, follow: followMovable });
  const keyed = new KeyedExecutions({
    elapsed,
    maxKeysPerTenant: shareOf(MAX_KEYS),
    start,
    async follow(executionId, caller, signal) {
      const parts = await openOwn(deps.ids, executionId, caller).catch(() => {
        throw outOfReach();
      });
      const follower = follow({ executionId, parts, caller, from: FROM_THE_START });
      const abandon = () => follower.abandon();
      signal.addEventListener('abort', abandon);
      if (signal.aborted) abandon();
      try {
        await follower.opened;
        return follower;
      } catch (failure) {
        abandon();
        throw failure;
      } finally {
        signal.removeEventListener('abort', abandon);
      }
    },
  });

  const routes = [
    ...createHealthRoutes({ version: config.version, directory, draining: () => leaving || draining }),
    ...createExecuteRoutes({ ...deps, directory, requestMemory, requireOpen, start, keyed }),
    ...createExecutionRoutes({ ...deps, directory, follow: followMovable }),
    ...createClusterRoutes({ directory }),
    ...createSessionRoutes({ ...deps, directory, requestMemory, requireOpen, start, keyed }),
    ...createProgramInputRoutes({ ...deps, directory, requestMemory, requireOpen, start, keyed }),
    ...createAgentRoutes(),
    ...createFileRoutes(deps),
  ];
  const router = createRouter([...routes, createOpenapiRoute(routes, config.version)], deps);

  function close(): void {
    if (closed) return;
    closed = true;
    draining = true;
    for (const run of [...runs]) run.part('This gateway was shut down before the code ended.');
    sendAway(followers);
    door.close();
    becomeIdle();
  }

  return {
    fetch: router,
    acceptsLinks: () => !leaving && !door.isFull,
    acceptLink: (socket) => door.accept(socket),
    openTerminal: (request) => terminals.open(request),
    leave() {
      leaving = true;
    },
    async drain(deadlineMs) {
      const untilMs = elapsed() + deadlineMs;
      const timer = timers.setTimeout(becomeIdle, deadlineMs);
      if (!draining) {
        draining = true;
        // What was taken may still begin: agents that are told to go would take it no more.
        lookAround();
        await Promise.race([begun, idle]);
        // Those that nobody reads go on at their agents without it.
        for (const run of [...runs]) if (!run.isRead) run.part('This gateway was shut down.');
        sendAway(movable);
        door.drain(Math.max(0, Math.round(untilMs - elapsed())));
      }
      await idle;
      timers.clearTimeout(timer);
      close();
    },
    close,
    status: () => ({
      version: config.version,
      draining,
      links: directory.linkCount,
      pendingLinks: door.pending,
      running: runs.size,
      queued: queue.size,
      requestBytes: requestMemory.bytes,
      outputBytes: outputMemory.bytes,
    }),
  };
}
