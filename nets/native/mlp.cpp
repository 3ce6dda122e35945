// Forward pass, backward pass and optimiser step of N stacked MLPs, one after the other: what belongs to one network stays in
// the cache. Plain C interface, so that the object file depends on no version of torch.
//
// A network is a list of layers, each a linear map, a normalisation and an activation; it reads the input (source -1) or the
// output of an earlier layer. Matrices are row-major; of N networks they lie one after the other. B: rows of a network.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <type_traits>
#include <vector>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define WIDE 4
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define WIDE 2
#else
#define VECTOR_BYTES 16
#define WIDE 2
#endif

namespace {

enum Norm : int64_t { NONE = 0, LAYER = 1, BATCH = 2 };
enum Activation : int64_t { IDENTITY = 0, RELU = 1, TANH = 2 };
enum Kind : int64_t { SGD = 0, ADAM = 1, ADAMW = 2 };

struct Layer {
  int64_t source, inputs, outputs, norm, activation;
};

// Tensors of one layer, of all networks; null where there is none.
template <typename T>
struct Tensors {
  T *weight, *bias, *gain, *shift;        // parameters [N, O, I], [N, O] each
  T *mean, *var, *new_mean, *new_var;     // running statistics before and after the pass, [N, O]
  T *output, *unit, *inverse;             // [N, B, O]; normalised; 1 / deviation, [N, B] or [N, O]
  T *given, *back, *of_gain, *of_shift;   // gradient of the output, of the map's result [N, B, O]; of gain and shift [N, O]
};

struct Step {  // Of an optimiser; `first`, `second`: corrections of the bias of the moments.
  int64_t kind;
  double rate, beta1, beta2, decay, momentum, epsilon, first, second;
};

template <typename T>
struct Vector {
  typedef T type __attribute__((vector_size(VECTOR_BYTES)));
  static constexpr int size = VECTOR_BYTES / sizeof(T);
  static inline type load(const T* p) { type v; std::memcpy(&v, p, sizeof(v)); return v; }
  static inline void store(T* p, type v) { std::memcpy(p, &v, sizeof(v)); }
  static inline type all(T x) { return x - type{}; }
};

template <typename T>
int64_t padded(int64_t count) {
  constexpr int64_t size = Vector<T>::size;
  return (count + size - 1) / size * size;
}

// What is soon read, of the next network: fetched into the cache a few lines at a time, while products are computed.
class Ahead {
 public:
  void add(const void* from, int64_t bytes) {
    if (count_ == MOST || !from) return;
    regions_[count_++] = {static_cast<const char*>(from), static_cast<const char*>(from) + bytes};
    lines_ += (bytes + LINE - 1) / LINE;
  }
  void spread(int64_t turns) { each_ = lines_ / std::max<int64_t>(turns, 1) + 1; }
  void fetch() {
    for (int64_t i = 0; i < each_ && place_ < count_; i++) {
      const char*& at = regions_[place_].at;
      __builtin_prefetch(at, 0, 2);
      at += LINE;
      if (at >= regions_[place_].end) place_++;
    }
  }
  void clear() { count_ = place_ = lines_ = each_ = 0; }

 private:
  static constexpr int64_t LINE = 64;
  static constexpr int MOST = 8;
  struct { const char *at, *end; } regions_[MOST];
  int64_t lines_ = 0, each_ = 0;
  int count_ = 0, place_ = 0;
};

// --- products: C [M, columns] = A B, of A at (m, k) = a[m am + k ak], B [K, columns]; columns in whole vectors ------------

template <typename T, int R, int V>
static inline __attribute__((always_inline)) void block(T* c, int64_t ldc, const T* a, int64_t am, int64_t ak, const T* b,
                                                        int64_t ldb, int64_t k_count, bool add) {
  typedef Vector<T> S;
  typename S::type sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) sum[r][v] = add ? S::load(c + r * ldc + v * S::size) : S::all(0);
  for (int64_t k = 0; k < k_count; k++) {
    typename S::type row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) row[v] = S::load(b + k * ldb + v * S::size);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const typename S::type factor = S::all(a[r * am + k * ak]);
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) sum[r][v] += factor * row[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) S::store(c + r * ldc + v * S::size, sum[r][v]);
}

template <typename T, int V>
static void columns(T* c, int64_t ldc, const T* a, int64_t am, int64_t ak, const T* b, int64_t ldb, int64_t rows, int64_t k_count,
                    bool add, Ahead& ahead) {
  int64_t m = 0;
  for (; m + 6 <= rows; m += 6, ahead.fetch()) block<T, 6, V>(c + m * ldc, ldc, a + m * am, am, ak, b, ldb, k_count, add);
  for (; m + 4 <= rows; m += 4, ahead.fetch()) block<T, 4, V>(c + m * ldc, ldc, a + m * am, am, ak, b, ldb, k_count, add);
  for (; m + 2 <= rows; m += 2, ahead.fetch()) block<T, 2, V>(c + m * ldc, ldc, a + m * am, am, ak, b, ldb, k_count, add);
  for (; m < rows; m++) block<T, 1, V>(c + m * ldc, ldc, a + m * am, am, ak, b, ldb, k_count, add);
}

template <typename T>
static void product(T* c, int64_t ldc, const T* a, int64_t am, int64_t ak, const T* b, int64_t ldb, int64_t rows, int64_t k_count,
                    int64_t count, Ahead& ahead, bool add = false) {
  constexpr int64_t size = Vector<T>::size;
  ahead.spread((count + WIDE * size - 1) / (WIDE * size) * (rows / 6));
  int64_t n = 0;
  for (; n + WIDE * size <= count; n += WIDE * size) columns<T, WIDE>(c + n, ldc, a, am, ak, b + n, ldb, rows, k_count, add, ahead);
  for (; n + 2 * size <= count; n += 2 * size) columns<T, 2>(c + n, ldc, a, am, ak, b + n, ldb, rows, k_count, add, ahead);
  for (; n < count; n += size) columns<T, 1>(c + n, ldc, a, am, ak, b + n, ldb, rows, k_count, add, ahead);
}

// --- copies --------------------------------------------------------------------------------------------------------------

template <typename T>
static void transpose(T* to, int64_t ld, const T* from, int64_t rows, int64_t count) {  // [rows, count] to [count, ld]
  int64_t i = 0;
  if constexpr (std::is_same<T, float>::value) {
    typedef float four __attribute__((vector_size(16)));
    typedef int32_t places __attribute__((vector_size(16)));
    for (; i + 4 <= rows; i += 4) {
      int64_t j = 0;
      for (; j + 4 <= count; j += 4) {
        four r[4], t[4];
        for (int k = 0; k < 4; k++) std::memcpy(&r[k], from + (i + k) * count + j, 16);
        t[0] = __builtin_shuffle(r[0], r[1], places{0, 4, 1, 5});
        t[1] = __builtin_shuffle(r[0], r[1], places{2, 6, 3, 7});
        t[2] = __builtin_shuffle(r[2], r[3], places{0, 4, 1, 5});
        t[3] = __builtin_shuffle(r[2], r[3], places{2, 6, 3, 7});
        r[0] = __builtin_shuffle(t[0], t[2], places{0, 1, 4, 5});
        r[1] = __builtin_shuffle(t[0], t[2], places{2, 3, 6, 7});
        r[2] = __builtin_shuffle(t[1], t[3], places{0, 1, 4, 5});
        r[3] = __builtin_shuffle(t[1], t[3], places{2, 3, 6, 7});
        for (int k = 0; k < 4; k++) std::memcpy(to + (j + k) * ld + i, &r[k], 16);
      }
      for (; j < count; j++)
        for (int k = 0; k < 4; k++) to[j * ld + i + k] = from[(i + k) * count + j];
    }
  }
  for (; i < rows; i++)
    for (int64_t j = 0; j < count; j++) to[j * ld + i] = from[i * count + j];
  for (int64_t j = 0; j < count; j++)
    for (int64_t k = rows; k < ld; k++) to[j * ld + k] = 0;
}

// Rows of `count` numbers in whole vectors: as they are, or a copy with zeros behind.
template <typename T>
static const T* in_vectors(const T* from, int64_t rows, int64_t count, T* copy) {
  const int64_t ld = padded<T>(count);
  if (ld == count) return from;
  for (int64_t r = 0; r < rows; r++) {
    std::memcpy(copy + r * ld, from + r * count, count * sizeof(T));
    std::fill(copy + r * ld + count, copy + (r + 1) * ld, T(0));
  }
  return copy;
}

// The largest magnitude; not finite where one number is not.
template <typename T>
static double largest(const T* x, int64_t count) {
  typedef typename std::conditional<sizeof(T) == 4, uint32_t, uint64_t>::type Bits;
  constexpr Bits sign = ~(Bits(1) << (8 * sizeof(Bits) - 1));
  Bits most = 0;
  for (int64_t i = 0; i < count; i++) {
    Bits bits;
    std::memcpy(&bits, x + i, sizeof(bits));
    bits &= sign;
    most = bits > most ? bits : most;
  }
  T found;
  std::memcpy(&found, &most, sizeof(found));
  return double(found);
}

// --- layers --------------------------------------------------------------------------------------------------------------

template <typename T>
static void activate(T* y, int64_t count, int64_t activation) {
  if (activation == RELU)
    for (int64_t i = 0; i < count; i++) y[i] = y[i] < T(0) ? T(0) : y[i];  // what is not a number stays so
  else if (activation == TANH)
    for (int64_t i = 0; i < count; i++) y[i] = std::tanh(y[i]);
}

template <typename T>
static void add_rows(T* z, int64_t ld, const T* added, int64_t rows, int64_t count) {
  for (int64_t b = 0; b < rows; b++)
    for (int64_t o = 0; o < count; o++) z[b * ld + o] += added[o];
}

template <typename T>
static void layer_norm(T* z, int64_t ld, T* unit, T* inverse, const T* gain, const T* shift, int64_t rows, int64_t count, T eps) {
  for (int64_t b = 0; b < rows; b++) {
    T *row = z + b * ld, *own = unit + b * count, total = 0, square = 0;
    for (int64_t o = 0; o < count; o++) total += row[o];
    const T mean = total / T(count);
    for (int64_t o = 0; o < count; o++) square += (row[o] - mean) * (row[o] - mean);
    const T scale = inverse[b] = T(1) / std::sqrt(square / T(count) + eps);
    for (int64_t o = 0; o < count; o++) {
      own[o] = (row[o] - mean) * scale;
      row[o] = own[o] * gain[o] + shift[o];
    }
  }
}

template <typename T>
static void batch_norm(T* z, int64_t ld, const Tensors<T>& t, int64_t n, int64_t rows, int64_t count, T eps, T momentum, T* work) {
  T *mean = work, *square = work + count;
  std::fill(work, work + 2 * count, T(0));
  for (int64_t b = 0; b < rows; b++)
    for (int64_t o = 0; o < count; o++) mean[o] += z[b * ld + o];
  for (int64_t o = 0; o < count; o++) mean[o] /= T(rows);
  for (int64_t b = 0; b < rows; b++)
    for (int64_t o = 0; o < count; o++) square[o] += (z[b * ld + o] - mean[o]) * (z[b * ld + o] - mean[o]);
  const int64_t at = n * count;
  T* inverse = t.inverse + at;
  for (int64_t o = 0; o < count; o++) {
    inverse[o] = T(1) / std::sqrt(square[o] / T(rows) + eps);
    // the bias before a batch norm cancels in the rows; the running mean includes it
    t.new_mean[at + o] = t.mean[at + o] + momentum * (mean[o] + t.bias[at + o] - t.mean[at + o]);
    t.new_var[at + o] = t.var[at + o] + momentum * (square[o] / T(rows - 1) - t.var[at + o]);
  }
  const T *gain = t.gain + at, *shift = t.shift + at;
  for (int64_t b = 0; b < rows; b++) {
    T *row = z + b * ld, *own = t.unit + (n * rows + b) * count;
    for (int64_t o = 0; o < count; o++) {
      own[o] = (row[o] - mean[o]) * inverse[o];
      row[o] = own[o] * gain[o] + shift[o];
    }
  }
}

template <typename T>
struct Work {
  std::vector<T> pack, rows, copy, back, sums;
  Ahead ahead;
  static T* of(std::vector<T>& memory, int64_t count) {
    if (int64_t(memory.size()) < count) memory.resize(count);
    return memory.data();
  }
};

template <typename T>
static void forward(int64_t n, bool last, int64_t rows, const std::vector<Layer>& layers, const Tensors<T>* tensors, const T* x, T eps,
                    T momentum, Work<T>& work) {
  for (size_t l = 0; l < layers.size(); l++) {
    const Layer& layer = layers[l];
    const Tensors<T>& t = tensors[l];
    const int64_t in = layer.inputs, out = layer.outputs, ld = padded<T>(out);
    const T* read = layer.source < 0 ? x + n * rows * in : tensors[layer.source].output + n * rows * in;
    T* pack = work.of(work.pack, in * ld);
    T* z = work.of(work.rows, rows * ld);
    transpose(pack, ld, t.weight + n * out * in, out, in);
    work.ahead.clear();
    if (!last) {
      work.ahead.add(t.weight + (n + 1) * out * in, out * in * sizeof(T));
      if (layer.source < 0) work.ahead.add(x + (n + 1) * rows * in, rows * in * sizeof(T));
    }
    product(z, ld, read, in, int64_t(1), pack, ld, rows, in, ld, work.ahead);
    if (layer.norm != BATCH) add_rows(z, ld, t.bias + n * out, rows, out);
    if (layer.norm == LAYER)
      layer_norm(z, ld, t.unit + n * rows * out, t.inverse + n * rows, t.gain + n * out, t.shift + n * out, rows, out, eps);
    else if (layer.norm == BATCH)
      batch_norm(z, ld, t, n, rows, out, eps, momentum, work.of(work.sums, 2 * out));
    for (int64_t b = 0; b < rows; b++) {
      T* to = t.output + (n * rows + b) * out;
      std::memcpy(to, z + b * ld, out * sizeof(T));
    }
    activate(t.output + n * rows * out, rows * out, layer.activation);
  }
}

template <typename T>
static void through_activation(T* dy, const T* y, int64_t count, int64_t activation) {
  if (activation == RELU)
    for (int64_t i = 0; i < count; i++) dy[i] = y[i] <= T(0) ? T(0) : dy[i];
  else if (activation == TANH)
    for (int64_t i = 0; i < count; i++) dy[i] *= T(1) - y[i] * y[i];
}

// Turn the gradient dy [rows, count] of a normalisation's result into that of its input; gradients of gain and shift.
template <typename T>
static void through_norm(T* dy, const Layer& layer, const Tensors<T>& t, int64_t n, int64_t rows, T* sums) {
  const int64_t count = layer.outputs, at = n * count;
  const T *gain = t.gain + at, *unit = t.unit + n * rows * count;
  T *of_gain = t.of_gain + at, *of_shift = t.of_shift + at;
  std::fill(of_gain, of_gain + count, T(0));
  std::fill(of_shift, of_shift + count, T(0));
  for (int64_t b = 0; b < rows; b++)
    for (int64_t o = 0; o < count; o++) {
      of_gain[o] += dy[b * count + o] * unit[b * count + o];
      of_shift[o] += dy[b * count + o];
    }
  if (layer.norm == LAYER) {
    for (int64_t b = 0; b < rows; b++) {
      T *d = dy + b * count, total = 0, along = 0;
      const T* u = unit + b * count;
      for (int64_t o = 0; o < count; o++) {
        d[o] *= gain[o];
        total += d[o];
        along += d[o] * u[o];
      }
      const T scale = t.inverse[n * rows + b];
      total /= T(count), along /= T(count);
      for (int64_t o = 0; o < count; o++) d[o] = scale * (d[o] - total - u[o] * along);
    }
    return;
  }
  T *scale = sums, *total = sums + count, *along = sums + 2 * count;
  for (int64_t o = 0; o < count; o++) {
    scale[o] = gain[o] * t.inverse[at + o];
    total[o] = of_shift[o] / T(rows);
    along[o] = of_gain[o] / T(rows);
  }
  for (int64_t b = 0; b < rows; b++)
    for (int64_t o = 0; o < count; o++) {
      T& d = dy[b * count + o];
      d = scale[o] * (d - total[o] - unit[b * count + o] * along[o]);
    }
}

// The gradients of every map's result, and `rows` times that of the input; returns a bound of all gradients' numbers, which is not finite where
// one of them might not be.
template <typename T>
static double backward(int64_t n, bool last, int64_t rows, const std::vector<Layer>& layers, const Tensors<T>* tensors, const T* x, T* of_x,
                       Work<T>& work) {
  const int64_t inputs = layers[0].inputs, count = int64_t(layers.size());
  std::vector<char> reached(count + 1, 0);
  int64_t widest = inputs;
  for (const Layer& layer : layers) widest = std::max(widest, layer.outputs);
  T* sum = work.of(work.back, rows * padded<T>(widest) * (count + 1));
  double bound = 0;
  const auto note = [&bound](double value) { bound = value < HUGE_VAL ? std::max(bound, value) : HUGE_VAL; };
  for (int64_t l = count - 1; l >= 0; l--) {
    const Layer& layer = layers[l];
    const Tensors<T>& t = tensors[l];
    const int64_t in = layer.inputs, out = layer.outputs, size = rows * out, ld = padded<T>(out), lower = padded<T>(in);
    if (!reached[l] && !t.given) continue;  // `back` is null: nothing reaches the layer
    T* dy = t.back + n * size;  // the given one itself, where it is that of the map's result
    const T* below = sum + rows * padded<T>(widest) * l;
    for (int64_t b = 0; b < rows && t.back != t.given; b++) {
      T* row = dy + b * out;
      const T *own = t.given ? t.given + n * size + b * out : nullptr, *other = reached[l] ? below + b * ld : nullptr;
      for (int64_t o = 0; o < out; o++) row[o] = (own ? own[o] : T(0)) + (other ? other[o] : T(0));
    }
    through_activation(dy, t.output + n * size, size, layer.activation);
    if (layer.norm != NONE) through_norm(dy, layer, t, n, rows, work.of(work.sums, 3 * out));
    const T* read = layer.source < 0 ? x + n * rows * in : tensors[layer.source].output + n * rows * in;
    const double most = largest(dy, size);
    note(most * double(rows));
    note(most * double(rows) * largest(read, rows * in));
    if (layer.norm != NONE) {
      note(largest(t.of_gain + n * out, out));
      note(largest(t.of_shift + n * out, out));
    }
    if (layer.source < 0 && !of_x) continue;
    const int64_t to = layer.source < 0 ? count : layer.source;
    const T* weight = in_vectors(t.weight + n * out * in, out, in, work.of(work.pack, out * lower));
    work.ahead.clear();
    if (!last) {
      work.ahead.add(t.weight + (n + 1) * out * in, out * in * sizeof(T));
      if (t.given) work.ahead.add(t.given + (n + 1) * size, size * sizeof(T));
      if (layer.activation != IDENTITY) work.ahead.add(t.output + (n + 1) * size, size * sizeof(T));
      if (layer.source < 0) work.ahead.add(x + (n + 1) * rows * in, rows * in * sizeof(T));
    }
    product(sum + rows * padded<T>(widest) * to, lower, dy, out, int64_t(1), weight, lower, rows, out, lower, work.ahead,
            bool(reached[to]));
    reached[to] = 1;
  }
  if (of_x) {
    const T* found = sum + rows * padded<T>(widest) * count;
    for (int64_t b = 0; b < rows; b++)
      for (int64_t i = 0; i < inputs; i++)
        of_x[(n * rows + b) * inputs + i] = found[b * padded<T>(inputs) + i] * T(rows);
    note(largest(of_x + n * rows * inputs, rows * inputs));
  }
  return bound;
}

// --- optimisers: as torch's ----------------------------------------------------------------------------------------------

template <typename T>
static void adam(T* __restrict p, const T* __restrict g, T* __restrict m, T* __restrict v, int64_t count, const Step& step) {
  const T keep = T(1 - step.beta1), beta2 = T(step.beta2), fresh = T(1 - step.beta2), size = T(step.rate / step.first);
  const T root = T(1 / std::sqrt(step.second)), eps = T(step.epsilon);
  const T decay = step.kind == ADAM ? T(step.decay) : T(0), shrink = step.kind == ADAMW ? T(1 - step.rate * step.decay) : T(1);
  for (int64_t i = 0; i < count; i++) {
    const T d = g[i] + decay * p[i];
    m[i] += (d - m[i]) * keep;
    v[i] = v[i] * beta2 + d * d * fresh;
    p[i] = p[i] * shrink - size * (m[i] / (std::sqrt(v[i]) * root + eps));
  }
}

template <typename T>
static void sgd(T* __restrict p, const T* __restrict g, T* __restrict m, int64_t count, const Step& step) {
  const T rate = T(step.rate), decay = T(step.decay), momentum = T(step.momentum);
  if (!m) {
    for (int64_t i = 0; i < count; i++) p[i] -= rate * (g[i] + decay * p[i]);
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    m[i] = m[i] * momentum + (g[i] + decay * p[i]);
    p[i] -= rate * m[i];
  }
}

constexpr int64_t BYTES = 1 << 15;  // of a weight's gradient that are made, and used, at once

// What becomes of a gradient: it is written, or an optimiser follows it.
template <typename T>
struct Target {
  T *gradient, *parameter, *first, *second;
  void take(int64_t at, const T* g, int64_t count, const Step& step) const {
    if (gradient)
      std::memcpy(gradient + at, g, count * sizeof(T));
    else if (step.kind == SGD)
      sgd(parameter + at, g, first ? first + at : nullptr, count, step);
    else
      adam(parameter + at, g, first + at, second + at, count, step);
  }
};

template <typename T>
static void update(int64_t n, bool last, int64_t rows, const std::vector<Layer>& layers, const Tensors<T>* tensors, const T* x,
                   const Target<T>* targets, const Step& step, Work<T>& work) {
  for (size_t l = 0; l < layers.size(); l++) {
    const Layer& layer = layers[l];
    const Tensors<T>& t = tensors[l];
    const int64_t in = layer.inputs, out = layer.outputs, ld = padded<T>(in);
    const Target<T>* own = targets + 4 * l;
    const int64_t strip_rows = std::max<int64_t>(6, BYTES / int64_t(ld * sizeof(T)) / 6 * 6);
    T* strip = work.of(work.rows, std::max(strip_rows * ld, out));
    if (!t.back) {
      std::fill(strip, strip + std::max(strip_rows * ld, out), T(0));
      for (int64_t o = 0; o < out; o++) own[0].take((n * out + o) * in, strip, in, step);
      for (int i = 1; i < (layer.norm == NONE ? 2 : 4); i++) own[i].take(n * out, strip, out, step);
      continue;
    }
    const T* dz = t.back + n * rows * out;
    const T* read = layer.source < 0 ? x + n * rows * in : tensors[layer.source].output + n * rows * in;
    read = in_vectors(read, rows, in, work.of(work.copy, rows * ld));
    for (int64_t o = 0; o < out; o += strip_rows) {
      const int64_t some = std::min(strip_rows, out - o);
      work.ahead.clear();
      if (!last && o + some >= out) {
        work.ahead.add(dz + rows * out, rows * out * sizeof(T));
        work.ahead.add(layer.source < 0 ? x + (n + 1) * rows * in : tensors[layer.source].output + (n + 1) * rows * in, rows * in * sizeof(T));
      }
      product(strip, ld, dz + o, int64_t(1), out, read, ld, some, rows, ld, work.ahead);
      if (ld == in) {
        own[0].take((n * out + o) * in, strip, some * in, step);
      } else {
        for (int64_t r = 0; r < some; r++) own[0].take((n * out + o + r) * in, strip + r * ld, in, step);
      }
    }
    std::fill(strip, strip + out, T(0));
    if (layer.norm != BATCH)  // before a batch norm a bias has no gradient
      for (int64_t b = 0; b < rows; b++)
        for (int64_t o = 0; o < out; o++) strip[o] += dz[b * out + o];
    own[1].take(n * out, strip, out, step);
    if (layer.norm != NONE) {
      own[2].take(n * out, t.of_gain + n * out, out, step);
      own[3].take(n * out, t.of_shift + n * out, out, step);
    }
  }
}

// --- all networks --------------------------------------------------------------------------------------------------------

template <typename T, typename Each>
static void for_all(int64_t count, int64_t threads, Each each) {
  threads = std::max<int64_t>(1, std::min(threads, count));
  auto range = [&](int64_t thread) {
    static thread_local Work<T> work;
    for (int64_t n = count * thread / threads; n < count * (thread + 1) / threads; n++)
      each(n, n + 1 == count * (thread + 1) / threads, work);
  };
  std::vector<std::thread> others;
  for (int64_t thread = 1; thread < threads; thread++) others.emplace_back(range, thread);
  range(0);
  for (std::thread& other : others) other.join();
}

static std::vector<Layer> layers_of(const int64_t* numbers, int64_t count) {
  std::vector<Layer> layers(count);
  for (int64_t l = 0; l < count; l++)
    layers[l] = Layer{numbers[5 * l], numbers[5 * l + 1], numbers[5 * l + 2], numbers[5 * l + 3], numbers[5 * l + 4]};
  return layers;
}

template <typename T>
static void forward_all(int64_t networks, int64_t rows, int64_t count, const int64_t* numbers, void* const* tensors, const void* x,
                        double eps, double momentum, int64_t threads) {
  const std::vector<Layer> layers = layers_of(numbers, count);
  const Tensors<T>* each = reinterpret_cast<const Tensors<T>*>(tensors);
  for_all<T>(networks, threads, [&](int64_t n, bool last, Work<T>& work) {
    forward(n, last, rows, layers, each, static_cast<const T*>(x), T(eps), T(momentum), work);
  });
}

template <typename T>
static void backward_all(int64_t networks, int64_t rows, int64_t count, const int64_t* numbers, void* const* tensors, const void* x,
                         void* of_x, double* bounds, int64_t threads) {
  const std::vector<Layer> layers = layers_of(numbers, count);
  const Tensors<T>* each = reinterpret_cast<const Tensors<T>*>(tensors);
  for_all<T>(networks, threads, [&](int64_t n, bool last, Work<T>& work) {
    bounds[n] = backward(n, last, rows, layers, each, static_cast<const T*>(x), static_cast<T*>(of_x), work);
  });
}

template <typename T>
static void update_all(int64_t networks, int64_t rows, int64_t count, const int64_t* numbers, void* const* tensors, const void* x,
                       void* const* targets, const uint8_t* stepping, float* steps, int64_t kind, const double* settings,
                       int64_t threads) {
  const std::vector<Layer> layers = layers_of(numbers, count);
  const Tensors<T>* each = reinterpret_cast<const Tensors<T>*>(tensors);
  const Target<T>* own = reinterpret_cast<const Target<T>*>(targets);
  for_all<T>(networks, threads, [&](int64_t n, bool last, Work<T>& work) {
    if (stepping && !stepping[n]) return;
    Step step{kind, settings[0], settings[1], settings[2], settings[3], settings[4], settings[5], 1, 1};
    if (steps) {
      steps[n] += 1;
      step.first = 1 - std::pow(step.beta1, double(steps[n]));
      step.second = 1 - std::pow(step.beta2, double(steps[n]));
    }
    update(n, last, rows, layers, each, static_cast<const T*>(x), own, step, work);
  });
}

}  // namespace

#define INTERFACE(T, NAME)                                                                                                      \
  void antiphon_forward_##NAME(int64_t networks, int64_t rows, int64_t count, const int64_t* layers, void* const* tensors,      \
                               const void* x, double eps, double momentum, int64_t threads) {                                   \
    forward_all<T>(networks, rows, count, layers, tensors, x, eps, momentum, threads);                                          \
  }                                                                                                                             \
  void antiphon_backward_##NAME(int64_t networks, int64_t rows, int64_t count, const int64_t* layers, void* const* tensors,     \
                                const void* x, void* of_x, double* bounds, int64_t threads) {                                   \
    backward_all<T>(networks, rows, count, layers, tensors, x, of_x, bounds, threads);                                          \
  }                                                                                                                             \
  void antiphon_update_##NAME(int64_t networks, int64_t rows, int64_t count, const int64_t* layers, void* const* tensors,       \
                              const void* x, void* const* targets, const uint8_t* stepping, float* steps, int64_t kind,         \
                              const double* settings, int64_t threads) {                                                        \
    update_all<T>(networks, rows, count, layers, tensors, x, targets, stepping, steps, kind, settings, threads);                \
  }

extern "C" {
INTERFACE(float, float32)
INTERFACE(double, float64)
}
