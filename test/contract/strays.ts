import { readdirSync, readFileSync } from 'node:fs';

/** A program with children that leave its session, ignore what can be ignored, and are stopped. */
export function strays(marker: string): string {
  return `
import os, signal, subprocess, time
sleep = ['sleep', '${marker}']
ignore = lambda: [signal.signal(each, signal.SIG_IGN) for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
subprocess.Popen(sleep)
subprocess.Popen(sleep, start_new_session=True, preexec_fn=ignore)
stopped = subprocess.Popen(sleep, start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: os.execvp('sleep', sleep)
    os._exit(0)
os.wait()
time.sleep(0.05)
stopped.send_signal(signal.SIGSTOP)
print('begun', flush=True)
time.sleep(60)
`;
}

/** How many `sleep <marker>` this machine runs. */
export function alive(marker: string): number {
  return readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'latin1').startsWith(`sleep\0${marker}`);
    } catch {
      return false;
    }
  }).length;
}
