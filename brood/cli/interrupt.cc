#include "brood/cli/interrupt.h"

#include <signal.h>

#include <csignal>
#include <cstddef>
#include <initializer_list>

namespace brood::cli {
namespace {

volatile std::sig_atomic_t caught = 0;

void remember(int number) { caught = number; }

// A handler's frame, with all vector and tile registers, is some 11 KB; handlers of a sanitizer want more.
constexpr size_t kHandlerStack = size_t(256) << 10;
alignas(64) char handler_stack[kHandlerStack];

}  // namespace

void catch_interrupts() {
  std::signal(SIGPIPE, SIG_IGN);
  // A stack of its own: oneDNN's products take the stack pointer into a block of the heap, and a handler that
  // ran there would write over what lies beside it.
  stack_t stack{};
  stack.ss_sp = handler_stack;
  stack.ss_size = sizeof(handler_stack);
  sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = int(SA_RESETHAND) | SA_ONSTACK;  // no SA_RESTART: a wait for input ends too
  for (int number : {SIGINT, SIGTERM, SIGHUP}) sigaction(number, &action, nullptr);
}

bool interrupted() { return caught != 0; }
int interrupted_exit_code() { return 128 + caught; }

}  // namespace brood::cli
