// Blocks one after the other, their threads as fibers: a thread runs on until it has to wait for others.
//
// Fibers are started by makecontext and then switched by _setjmp and _longjmp, which make no system call. A
// fiber whose thread has ended goes on with the next thread, so that kernels which never wait need but one.

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <deque>
#include <map>
#include <vector>

#include "cuda_emulator.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulator {
alignas(1024) char dynamic_shared[256 << 10];

namespace {
constexpr size_t STACK = 256 << 10, LARGEST_SHARED = 227 << 10;
enum Outcome { DONE, DEADLOCK, FAULT, TOO_LARGE };

struct Fiber {
    jmp_buf here;
    ucontext_t start;
    bool started = false;
    unsigned thread = 0;
    uint3 index = {};
};

struct Warp {
    char slots[32 * SLOT];
    std::map<unsigned, unsigned> arrived;  // by mask
};

std::vector<Fiber *> idle;
std::deque<Fiber *> ready;
std::vector<Fiber *> waiting;  // by thread, null for those that do not wait
std::vector<Warp> warps;
Fiber *running;
jmp_buf scheduler;
sigjmp_buf fault;
unsigned threads, next_thread, alive, at_barrier;
std::vector<bool> at_block_barrier;
void (*body)(void *);
void *context;

__attribute__((noinline)) void suspend() {
    if (!_setjmp(running->here)) _longjmp(scheduler, 1);
}

uint3 place(unsigned thread) {
    return {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
}

void wake(unsigned thread) {
    ready.push_back(waiting[thread]);
    waiting[thread] = nullptr;
}

void wait() {
    waiting[running->thread] = running;
    suspend();
}

// Threads that have ended are not waited for.
void release_block() {
    if (at_barrier == 0 || at_barrier < alive) return;
    at_barrier = 0;
    for (unsigned i = 0; i < threads; ++i)
        if (at_block_barrier[i]) {
            at_block_barrier[i] = false;
            wake(i);
        }
}

void work() {
    for (;;) {
        while (next_thread < threads) {
            running->thread = next_thread++;
            threadIdx = running->index = place(running->thread);
            body(context);
            --alive;
            release_block();
        }
        idle.push_back(running);
        suspend();
    }
}

void resume(Fiber *fiber) {
    running = fiber;
    if (_setjmp(scheduler)) return;
    if (fiber->started) {
        threadIdx = fiber->index;
        _longjmp(fiber->here, 1);
    }
    fiber->started = true;
    setcontext(&fiber->start);
}

Fiber *new_fiber() {
    auto *fiber = new Fiber;
    getcontext(&fiber->start);
    fiber->start.uc_stack.ss_sp =
        mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    fiber->start.uc_stack.ss_size = STACK;
    fiber->start.uc_link = nullptr;
    makecontext(&fiber->start, work, 0);
    return fiber;
}

Outcome run_block() {
    next_thread = at_barrier = 0;
    alive = threads;
    while (alive) {
        if (!ready.empty()) {
            Fiber *fiber = ready.front();
            ready.pop_front();
            resume(fiber);
        } else if (next_thread < threads) {
            Fiber *fiber = idle.empty() ? new_fiber() : idle.back();
            if (!idle.empty()) idle.pop_back();
            resume(fiber);
        } else {
            return DEADLOCK;
        }
    }
    return DONE;
}

void forget() {
    idle.clear();  // what fibers were doing is lost with their stacks
    ready.clear();
}

void on_fault(int) { siglongjmp(fault, 1); }

// While it lives, a fault of a kernel ends the launch and not the process.
struct Guard {
    static constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction before[4];
    Guard() {
        struct sigaction action = {};
        action.sa_handler = on_fault;
        for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &action, &before[i]);
    }
    ~Guard() {
        for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
    }
};
}  // namespace

unsigned lane() { return running->thread % 32; }
char *slots() { return warps[running->thread / 32].slots; }

void wait_for_block() {
    ++at_barrier;
    at_block_barrier[running->thread] = true;
    waiting[running->thread] = running;
    release_block();
    suspend();
}

void wait_for_warp(unsigned mask) {
    const unsigned first = running->thread / 32 * 32, there = threads - first;
    if (there < 32) mask &= (1u << there) - 1;  // the last warp may be partial
    unsigned &arrived = warps[first / 32].arrived[mask];
    arrived |= 1u << lane();
    if (arrived != mask) return wait();
    arrived = 0;
    for (unsigned i = 0; i < 32; ++i)
        if (mask >> i & 1 && i != lane()) wake(first + i);
}

int launch(void (*kernel)(void *), void *arguments, const unsigned *grid, const unsigned *block,
           size_t shared) {
    if (shared > LARGEST_SHARED || (size_t)block[0] * block[1] * block[2] > 1024) return TOO_LARGE;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    threads = block[0] * block[1] * block[2];
    body = kernel;
    context = arguments;
    waiting.assign(threads, nullptr);
    at_block_barrier.assign(threads, false);
    warps.assign((threads + 31) / 32, Warp());
    const Guard guard;
    if (sigsetjmp(fault, 1)) {
        forget();
        return FAULT;
    }
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) {
                memset(dynamic_shared, 0xff, shared);
                if (run_block() == DEADLOCK) {
                    forget();
                    return DEADLOCK;
                }
            }
    return DONE;
}
}  // namespace emulator
