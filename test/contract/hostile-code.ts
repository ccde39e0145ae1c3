/**
 * Programs that attack a sandbox from inside. Each prints one JSON value: what it got. They look before they leap: where
 * /proc shows more than a sandbox could hold, the sandbox has failed, and they say so and do nothing.
 */

const LOOK = `
import os, sys, json
others = sorted(int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid())
if os.getuid() == 0 or len(others) > 12 or (others and max(others) - min(others) > 5000):
    print(json.dumps({'not a sandbox': [os.getuid(), len(others)]}))
    sys.exit(0)
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.syscall.argtypes = [ctypes.c_long] * 7
X86 = os.uname().machine == 'x86_64'
def call(x86, arm, *args):
    return libc.syscall(x86 if X86 else arm, *(args + (0,) * (6 - len(args))))
def went(what):
    try:
        return what() not in (None, -1)
    except OSError:
        return False
`;

/** Families that a socket of any type could be opened for, by the C library's door and by a raw call. */
export const SOCKETS = `${LOOK}
opened = []
for family in range(64):
    for kind in (1, 2, 3, 5):
        for high in (0, 1 << 32):
            for number in ((41, 198), (53, 199)):
                pair = (ctypes.c_int * 2)()
                fd = call(*number, family | high, kind, 0, ctypes.addressof(pair) if number[0] == 53 else 0)
                if fd >= 0:
                    opened.append(family)
# io_uring opens sockets without socket(2).
params = (ctypes.c_char * 120)()
if call(425, 425, 1, ctypes.addressof(params)) >= 0:
    opened.append('io_uring')
with open('/proc/net/dev') as file:
    devices = sorted(line.split(':')[0].strip() for line in file if ':' in line)
print(json.dumps({'families': sorted(set(opened), key=str), 'devices': devices}))
`;

/** What reaches a process that is not the program's own. */
export const AGAINST_OTHERS = `${LOOK}
import fcntl, resource, signal
got = []
entered = [pid for pid in others if pid != 1 and '\\nPPid:\\t0\\n' in open('/proc/%d/status' % pid).read()]
def attack(name, pid, what):
    if went(what):
        got.append('%s %d' % (name, pid))
number = ctypes.c_ulong(0)
limits = (ctypes.c_uint64 * 2)(0, 0)
info = (ctypes.c_char * 128)()
info[0], info[8] = 9, 255
def owner(pid):
    reading, writing = os.pipe()
    fcntl.fcntl(reading, 10, signal.SIGKILL)
    fcntl.fcntl(reading, fcntl.F_SETOWN, pid)
    fcntl.fcntl(reading, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(writing, b'x')
    return 0
def by_directory(pid):
    return call(424, 424, os.open('/proc/%d' % pid, os.O_RDONLY), signal.SIGKILL)
def read(pid, name):
    with open('/proc/%d/%s' % (pid, name), 'rb') as file:
        return len(file.read(64)) or None
def write(pid, name, text):
    with open('/proc/%d/%s' % (pid, name), 'w') as file:
        return file.write(text)
def memory(pid):
    buffer = (ctypes.c_char * 8)()
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 8)
    remote = (ctypes.c_uint64 * 2)(id(libc), 8)
    return call(310, 270, pid, ctypes.addressof(vector), 1, ctypes.addressof(remote), 1)
for pid in others:
    for sent in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, 0):
        attack('kill', pid, lambda: os.kill(pid, sent) or 0)
        attack('kill the group of', pid, lambda: os.kill(-pid, sent) or 0) if pid != 1 else None
        attack('kill past 32 bits', pid, lambda: call(62, 129, pid | 1 << 32, sent))
        attack('tkill', pid, lambda: call(200, 130, pid, sent))
        attack('tgkill', pid, lambda: call(234, 131, pid, pid, sent))
    attack('queue', pid, lambda: call(129, 138, pid, signal.SIGKILL, ctypes.addressof(info)))
    attack('pidfd_open', pid, lambda: call(434, 434, pid))
    attack('own a descriptor', pid, lambda: owner(pid))
    attack('prlimit', pid, lambda: call(302, 261, pid, resource.RLIMIT_CPU, ctypes.addressof(limits)))
    attack('affinity', pid, lambda: os.sched_setaffinity(pid, {0}) or 0)
    attack('scheduler', pid, lambda: os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0)) or 0)
    attack('nice', pid, lambda: os.setpriority(os.PRIO_PROCESS, pid, 19) or 0)
    attack('ionice', pid, lambda: call(251, 30, 1, pid, 3 << 13))
    attack('attach', pid, lambda: call(101, 117, 16, pid))
    attack('seize', pid, lambda: call(101, 117, 0x4206, pid))
    attack('memory of', pid, lambda: memory(pid))
    for name in ('mem', 'environ', 'maps', 'auxv', 'stack', 'syscall'):
        attack('read %s of' % name, pid, lambda: read(pid, name))
    for name in ('fd', 'map_files', 'ns'):
        attack('list %s of' % name, pid, lambda: [os.readlink('/proc/%d/%s/%s' % (pid, name, each)) for each in os.listdir('/proc/%d/%s' % (pid, name))] or None)
    for name in ('root', 'cwd', 'exe'):
        attack('follow %s of' % name, pid, lambda: os.readlink('/proc/%d/%s' % (pid, name)))
    for name, text in (('oom_score_adj', '1000'), ('autogroup', '19'), ('comm', 'x'), ('coredump_filter', '0')):
        attack('write %s of' % name, pid, lambda: write(pid, name, text))
attack('nice of all', 0, lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19) or 0)
attack('traceme', 0, lambda: call(101, 117, 0, 0))
attack('sibling', 0, lambda: call(56, 220, 0x8000 | 17) or os._exit(0))
# /proc/<pid>/fd names a directory that a pidfd call takes: only where its pidfd is refused outright is this safe to count.
for pid in others:
    if pid != 1:
        attack('pidfd by directory', pid, lambda: by_directory(pid))
try:
    os.kill(-1, signal.SIGKILL)
except OSError:
    pass
print(json.dumps({'others': len(others), 'entered': entered, 'got': got}))
`;

/** Every door to more privilege. */
export const PRIVILEGES = `${LOOK}
got = []
def attempt(name, what):
    if went(what):
        got.append(name)
with open('/proc/self/status') as file:
    status = dict(line.rstrip('\\n').split(':\\t', 1) for line in file if ':\\t' in line)
for flag in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
    attempt('unshare %x' % flag, lambda: call(272, 97, flag))
attempt('mount', lambda: call(165, 40, 0, ctypes.addressof(ctypes.create_string_buffer(b'/tmp')), 0, 0x20, 0))
attempt('chroot', lambda: os.chroot('/tmp') or 0)
attempt('setuid', lambda: os.setuid(0) or 0)
attempt('setgid', lambda: os.setgid(0) or 0)
attempt('setgroups', lambda: os.setgroups([0]) or 0)
attempt('setns', lambda: call(308, 268, os.open('/proc/self/ns/net', os.O_RDONLY), 0))
attempt('mknod', lambda: os.mknod('/tmp/device', 0o20600, os.makedev(1, 1)) or 0)
attempt('hostname', lambda: call(170, 161, ctypes.addressof(ctypes.create_string_buffer(b'x')), 1))
attempt('bpf', lambda: call(321, 280, 0, ctypes.addressof((ctypes.c_char * 128)()), 72))
attempt('perf', lambda: call(298, 241, ctypes.addressof((ctypes.c_char * 128)()), 0, -1, -1, 0))
attempt('userfaultfd', lambda: call(323, 282, 1))
attempt('keyctl', lambda: call(250, 219, 0, -3, 1))
attempt('message queue', lambda: call(240, 180, ctypes.addressof(ctypes.create_string_buffer(b'q')), 0o102, 0o600, 0))
attempt('personality', lambda: call(135, 92, 0x400000))
print(json.dumps({
    'uids': sorted(set(status['Uid'].split())), 'gids': sorted(set(status['Gid'].split() + status['Groups'].split())),
    'capabilities': sorted(set(status[name].strip('0') for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'))),
    'no_new_privs': status['NoNewPrivs'], 'seccomp': status['Seccomp'], 'got': got,
}))
`;

/** Where a file can be made, and what of the host can be read. */
export const FILES = `${LOOK}
writable, readable = [], []
for folder, folders, names in os.walk('/'):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in ('/proc', '/usr/share', '/usr/lib', '/usr/src')]
    try:
        probe = os.path.join(folder, '.podgate-probe')
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY))
        os.unlink(probe)
        writable.append(folder)
        folders.clear()
    except OSError:
        pass
for path in ('/usr/bin/env', '/etc/passwd', '/proc/1/oom_score_adj', '/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/root/.podgate-termination'):
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
        writable.append(path)
    except OSError:
        pass
for path in ('/etc/shadow', '/etc/ssh', '/root', '/home', '/var/run/docker.sock', '/run/containerd', '/sys/kernel/debug', '/var/lib', '/var/log',
             '/run/secrets/kubernetes.io', '/var/run/secrets/kubernetes.io/serviceaccount/token', '/dev/kmsg', '/dev/mem', '/proc/kcore'):
    try:
        if os.path.isdir(path):
            # An interpreter that lives there is shown, with nothing beside it.
            if [name for name in os.listdir(path) if not (sys.prefix + '/').startswith('%s/%s/' % (path, name))]:
                readable.append(path)
        elif open(path, 'rb').read(1):
            readable.append(path)
    except OSError:
        pass
sizes = {path: os.statvfs(path).f_blocks * os.statvfs(path).f_frsize for path in (os.getcwd(), '/tmp')}
print(json.dumps({'writable': sorted(writable), 'readable': readable, 'sizes': sizes, 'cwd': os.getcwd()}))
`;
