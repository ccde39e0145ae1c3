import type { Gateway } from '../create-gateway.ts';
import { createHttpServer, type HttpServer } from './http-server.ts';
import { closeServer, listen, stopListening } from './listen.ts';
import { acceptUpgrades } from './upgrades.ts';

/** The server that callers and agents reach. What comes before there is a gateway waits for it. */
export type FrontServer = Pick<HttpServer, 'leave' | 'answered' | 'dismiss'> & {
  readonly port: number;
  /** There is a gateway. */
  open(gateway: Gateway): void;
  /** Takes no more connections. Resolves when the last one has ended. Idempotent. */
  stop(): Promise<void>;
  /** Ends what was upgraded, at once. */
  closeUpgrades(): void;
  /** Takes no more connections, and cuts after `deadlineMs` what has not ended by itself. */
  close(deadlineMs: number): Promise<void>;
};

/** Listens. Rejects with a Failure that names the address. Port 0 is one that is free. */
export async function openFrontServer(at: { host: string; port: number }): Promise<FrontServer> {
  const gateway = Promise.withResolvers<Gateway>();
  const { server, leave, answered, dismiss, cut } = createHttpServer(gateway.promise);
  const upgrades = acceptUpgrades(server, gateway.promise);
  const port = await listen(server, at.host, at.port, 'PORT');
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= stopListening(server);
    return stopped;
  };
  return {
    port,
    leave,
    answered,
    dismiss,
    open: gateway.resolve,
    stop,
    closeUpgrades: () => upgrades.close(),
    close: (deadlineMs) => closeServer(server, deadlineMs, { closed: stop(), cut }),
  };
}
