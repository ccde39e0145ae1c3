import { Failure } from '../shared/errors.ts';
import { MAX_REQUESTS_IN_FLIGHT_BYTES } from '../shared/limits.ts';
import { ClusterDirectory } from './clusters/cluster-directory.ts';
import type { ExecutionOrder } from './execution/execution-order.ts';
import { ExecutionRun } from './execution/execution-run.ts';
import { MemoryBudget } from './execution/memory-budget.ts';
import type { GatewayDeps } from './gateway-deps.ts';
import type { RequestInfo } from './http/route.ts';
import { createRouter } from './http/router.ts';
import { LinkDoor } from './link/link-door.ts';
import type { LinkHandlers, LinkSocketPort } from './link/link-socket.ts';
import { SlotQueue } from './queue/slot-queue.ts';
import { createAgentRoutes } from './routes/agents.ts';
import { createClusterRoutes } from './routes/clusters.ts';
import { createExecuteRoutes } from './routes/execute.ts';
import { createExecutionRoutes } from './routes/executions.ts';
import { FILE_DOCS } from './routes/file-docs.ts';
import { createFileRoutes } from './routes/files.ts';
import { createHealthRoutes } from './routes/health.ts';
import { createOpenapiRoute } from './routes/openapi.ts';
import { createSessionRoutes } from './routes/sessions.ts';

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
  acceptLink(socket: LinkSocketPort): LinkHandlers;
  /** Refuses new work, lets what runs end, at most `deadlineMs`, then closes. */
  drain(deadlineMs: number): Promise<void>;
  /** Ends at once: executions fail with `draining`, links close with 4503. */
  close(): void;
  status(): GatewayStatus;
};

/** The gateway, on Web APIs alone: everything else comes in through `deps`. */
export function createGateway(deps: GatewayDeps): Gateway {
  const { config, now, timers } = deps;
  const runs = new Set<ExecutionRun>();
  const { promise: idle, resolve: becomeIdle } = Promise.withResolvers<void>();
  let draining = false;
  let closed = false;
  const directory: ClusterDirectory = new ClusterDirectory({
    now,
    maxLinksPerTenant: config.maxLinksPerTenant,
    onFreed: (tenant) => queue.freed(tenant),
  });
  const queue = new SlotQueue(directory);
  const door = new LinkDoor(directory, deps);
  const requestMemory = new MemoryBudget(MAX_REQUESTS_IN_FLIGHT_BYTES);
  const outputMemory = new MemoryBudget(config.outputMemoryBytes);
  const onOver = (run: ExecutionRun) => {
    runs.delete(run);
    if (draining && runs.size === 0) becomeIdle();
  };

  function requireOpen(): void {
    if (draining) throw new Failure('draining', 'This gateway is shutting down; try again.');
  }

  function start(order: ExecutionOrder): ExecutionRun {
    requireOpen();
    const run = new ExecutionRun(order, { ...deps, directory, queue, outputMemory, onOver });
    runs.add(run);
    return run;
  }

  const routes = [
    ...createHealthRoutes({ version: config.version, directory, draining: () => draining }),
    ...createExecuteRoutes({ ...deps, directory, requestMemory, requireOpen, start }),
    ...createExecutionRoutes({ ...deps, directory }),
    ...createClusterRoutes({ directory }),
    ...createSessionRoutes({ ...deps, requestMemory }),
    ...createAgentRoutes(),
  ];
  const router = createRouter(
    [...routes, createOpenapiRoute([...routes, ...FILE_DOCS], config.version)],
    [
      {
        path: '/v1/files',
        scope: 'files',
        app: (callerOf) => createFileRoutes({ store: deps.fileStore, callerOf }),
      },
    ],
    deps,
  );

  function close(): void {
    if (closed) return;
    closed = true;
    draining = true;
    for (const run of [...runs]) run.stop('draining', 'This gateway was shut down before the code ended.');
    door.close();
    becomeIdle();
  }

  return {
    fetch: router,
    acceptsLinks: () => !door.isFull,
    acceptLink: (socket) => door.accept(socket),
    async drain(deadlineMs) {
      if (!draining) {
        draining = true;
        door.drain(deadlineMs);
        for (const run of [...runs]) if (run.waiting) run.stop('draining', 'This gateway is shutting down.');
        if (runs.size === 0) becomeIdle();
      }
      const timer = timers.setTimeout(becomeIdle, deadlineMs);
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
