"""Numbers of the system calls that a confined process may make, by architecture.

They are those of Linux's own tables, which only ever grow. A call that is not here is not
permitted: those of a newer C library too, which falls back on older ones where it is told that a
call is absent.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one architecture."""

    audit: int
    """The architecture, as the kernel's audit calls it."""
    allowed: tuple[int, ...]
    """Calls that compute, read what is open, or ask."""
    opening: tuple[tuple[int, int], ...]
    """Calls that open a file, each with the place of its flags; allowed for reading."""
    clone: int
    """Makes threads, which are allowed, and processes, which are not."""
    signal: int
    """Sends a signal to a thread, which is allowed inside of this process."""
    absent: tuple[tuple[int, int], ...]
    """Calls with another error than that they are not permitted."""


def _numbers(table: str) -> tuple[int, ...]:
    return tuple(int(entry.partition("=")[2]) for entry in table.split())


_X86_64 = """
    read=0 pread64=17 readv=19 preadv=295 write=1 writev=20 close=3 fstat=5 newfstatat=262
    statx=332 lseek=8 mmap=9 mprotect=10 munmap=11 brk=12 mremap=25 madvise=28 mincore=27
    membarrier=324 rt_sigaction=13 rt_sigprocmask=14 rt_sigreturn=15 sigaltstack=131 ppoll=271
    pselect6=270 sched_yield=24 sched_getaffinity=204 sched_getparam=143 sched_getscheduler=145
    getpid=39 gettid=186 getppid=110 getuid=102 geteuid=107 getgid=104 getegid=108 getcwd=79
    uname=63 sysinfo=99 getrlimit=97 prlimit64=302 getrusage=98 times=100 clock_gettime=228
    clock_getres=229 clock_nanosleep=230 nanosleep=35 gettimeofday=96 futex=202
    set_robust_list=273 get_robust_list=274 rseq=334 set_tid_address=218 exit=60 exit_group=231
    getrandom=318 readlinkat=267 faccessat=269 faccessat2=439 getdents64=217 fcntl=72 dup=32
    fadvise64=221 restart_syscall=219 statfs=137 fstatfs=138 getcpu=309 stat=4 lstat=6 poll=7
    select=23 readlink=89 access=21 getdents=78 time=201 arch_prctl=158
"""

_AARCH64 = """
    read=63 pread64=67 readv=65 preadv=69 write=64 writev=66 close=57 fstat=80 newfstatat=79
    statx=291 lseek=62 mmap=222 mprotect=226 munmap=215 brk=214 mremap=216 madvise=233 mincore=232
    membarrier=283 rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 sigaltstack=132 ppoll=73
    pselect6=72 sched_yield=124 sched_getaffinity=123 sched_getparam=121 sched_getscheduler=120
    getpid=172 gettid=178 getppid=173 getuid=174 geteuid=175 getgid=176 getegid=177 getcwd=17
    uname=160 sysinfo=179 getrlimit=163 prlimit64=261 getrusage=165 times=153 clock_gettime=113
    clock_getres=114 clock_nanosleep=115 nanosleep=101 gettimeofday=169 futex=98
    set_robust_list=99 get_robust_list=100 rseq=293 set_tid_address=96 exit=93 exit_group=94
    getrandom=278 readlinkat=78 faccessat=48 faccessat2=439 getdents64=61 fcntl=25 dup=23
    fadvise64=223 restart_syscall=128 statfs=43 fstatfs=44 getcpu=168
"""

ARCHITECTURES = {
    "x86_64": Calls(
        audit=0xC000003E,
        allowed=_numbers(_X86_64),
        opening=((257, 2), (2, 1)),
        clone=56,
        signal=234,
        absent=((16, errno.ENOTTY), (435, errno.ENOSYS), (437, errno.ENOSYS)),
    ),
    "aarch64": Calls(
        audit=0xC00000B7,
        allowed=_numbers(_AARCH64),
        opening=((56, 2),),
        clone=220,
        signal=131,
        absent=((29, errno.ENOTTY), (435, errno.ENOSYS), (437, errno.ENOSYS)),
    ),
}
"""By the name that the kernel has for the machine."""
