#include "core/device/lapack.h"

#include <dlfcn.h>
#include <omp.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/device/cpu/team.h"

namespace muonp::core::lapack {
namespace {

// Fortran: everything by address, and behind the arguments the length of each text.
using Text = const char*;
using Int = const int*;
extern "C" {
using Sgesdd = void(Text, Int, Int, float*, Int, float*, float*, Int, float*, Int, float*, Int, int*, int*, std::size_t);
using Dgesdd = void(Text, Int, Int, double*, Int, double*, double*, Int, double*, Int, double*, Int, int*, int*,
                    std::size_t);
using Dgeqrf = void(Int, Int, double*, Int, double*, double*, Int, int*);
using Dorgqr = void(Int, Int, Int, double*, Int, const double*, double*, Int, int*);
using Dsyev = void(Text, Text, Int, double*, Int, double*, double*, Int, int*, std::size_t, std::size_t);
using Dgemm = void(Text, Text, Int, Int, Int, const double*, const double*, Int, const double*, Int, const double*, double*,
                   Int, std::size_t, std::size_t);
}

// OpenBLAS reserves as much for each thread and for itself, and asks again without end where it gets none.
constexpr std::size_t kBuffer = std::size_t{128} << 20;
constexpr int kMostThreads = 128;  // of Debian's OpenBLAS

bool can_reserve(int buffers) {
  std::vector<void*> held;
  while (static_cast<int>(held.size()) < buffers) {
    void* at = ::mmap(nullptr, kBuffer, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) break;
    held.push_back(at);
  }
  for (void* at : held) ::munmap(at, kBuffer);
  return static_cast<int>(held.size()) == buffers;
}

std::string limit_text() {
  rlimit limit{};
  ::getrlimit(RLIMIT_AS, &limit);
  return limit.rlim_cur == RLIM_INFINITY
             ? "the machine's memory settings do not allow that"
             : fmt::format("the limit (ulimit -v) is {} MiB for all of this process; raise it", limit.rlim_cur >> 20);
}

void* open_library() {
  const int buffers = std::min(omp_get_num_procs(), kMostThreads) + 2;  // of threads, of the caller, for the library
  if (!can_reserve(buffers))
    fail("this needs LAPACK, and OpenBLAS reserves {} MiB of address space for that on this machine: {}",
         static_cast<std::size_t>(buffers) * (kBuffer >> 20), limit_text());
  // By its name first: a bundle brings its own (launch/bundle.sh), and another system may have some other one at this path.
  void* library = ::dlopen(MUONP_OPENBLAS_NAME, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) library = ::dlopen(MUONP_OPENBLAS_PATH, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail("this needs LAPACK, and {} cannot be loaded: {}; on Debian: apt-get install libopenblas0-openmp",
         MUONP_OPENBLAS_NAME, ::dlerror());
  return library;
}

void* library() {
  static void* const opened = open_library();
  return opened;
}

template <class Function>
Function* routine(const char* name) {
  void* const found = ::dlsym(library(), name);
  if (found == nullptr) fail("{} has no LAPACK: {}", MUONP_OPENBLAS_NAME, ::dlerror());
  return reinterpret_cast<Function*>(found);
}

// Calls `run` once to ask for the size of its work space, and once with it.
template <class Run>
int with_workspace(const Run& run) {
  double best = 0;
  if (const int info = run(&best, -1); info != 0) return info;
  std::vector<double> work(static_cast<std::size_t>(best) + 1);
  return run(work.data(), static_cast<int>(best));
}

}  // namespace

int sgesdd(int rows, int cols, float* a, float* s, float* u, float* vt, float* work, int work_size, std::int32_t* integers) {
  static const auto call = routine<Sgesdd>("sgesdd_");
  const cpu::TeamSize team(omp_get_max_threads());
  const int k = std::min(rows, cols);
  int info = 0;
  call("S", &rows, &cols, a, &rows, s, u, &rows, vt, &k, work, &work_size, integers, &info, 1);
  return info;
}

int dgesdd(int rows, int cols, double* a, double* s, double* u, double* vt) {
  static const auto call = routine<Dgesdd>("dgesdd_");
  const cpu::TeamSize team(omp_get_max_threads());
  const int k = std::min(rows, cols);
  std::vector<int> integers(8 * static_cast<std::size_t>(k));
  return with_workspace([&](double* work, int size) {
    int info = 0;
    call("S", &rows, &cols, a, &rows, s, u, &rows, vt, &k, work, &size, integers.data(), &info, 1);
    return info;
  });
}

int orthonormalize(int rows, int cols, double* a) {
  static const auto factorize = routine<Dgeqrf>("dgeqrf_");
  static const auto form = routine<Dorgqr>("dorgqr_");
  const cpu::TeamSize team(omp_get_max_threads());
  std::vector<double> tau(static_cast<std::size_t>(cols));
  int info = 0;
  const int failed = with_workspace([&](double* work, int size) {
    factorize(&rows, &cols, a, &rows, tau.data(), work, &size, &info);
    return info;
  });
  if (failed != 0) return failed;
  return with_workspace([&](double* work, int size) {
    form(&rows, &cols, &cols, a, &rows, tau.data(), work, &size, &info);
    return info;
  });
}

namespace {

int eigen(const char* wanted, int n, double* a, double* values) {
  if (!std::all_of(a, a + std::int64_t{n} * n, [](double x) { return std::isfinite(x); })) return -4;  // LAPACK's word for A
  static const auto call = routine<Dsyev>("dsyev_");
  const cpu::TeamSize one_thread(1);  // the number of threads decides the order of sums
  return with_workspace([&](double* work, int size) {
    int info = 0;
    call(wanted, "U", &n, a, &n, values, work, &size, &info, 1, 1);
    return info;
  });
}

}  // namespace

int dsyev(int n, double* a, double* values) { return eigen("V", n, a, values); }
int dsyev_values(int n, double* a, double* values) { return eigen("N", n, a, values); }

void dgemm(bool transpose_a, bool transpose_b, int m, int n, int k, const double* a, const double* b, double* c) {
  static const auto call = routine<Dgemm>("dgemm_");
  const cpu::TeamSize team(omp_get_max_threads());
  const double one = 1, zero = 0;
  const int a_rows = transpose_a ? k : m, b_rows = transpose_b ? n : k;
  call(transpose_a ? "T" : "N", transpose_b ? "T" : "N", &m, &n, &k, &one, a, &a_rows, b, &b_rows, &zero, c, &m, 1, 1);
}

}  // namespace muonp::core::lapack
