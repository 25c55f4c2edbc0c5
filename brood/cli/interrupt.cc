#include "brood/cli/interrupt.h"

#include <csignal>

namespace brood::cli {
namespace {

volatile std::sig_atomic_t caught = 0;

void remember(int number) { caught = number; }

}  // namespace

void catch_interrupts() {
  std::signal(SIGPIPE, SIG_IGN);
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = int(SA_RESETHAND);  // no SA_RESTART: a wait for input ends too
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return caught != 0; }
int interrupted_exit_code() { return 128 + caught; }

}  // namespace brood::cli
