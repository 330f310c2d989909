//! The Rust side of the C++ half: safe functions over what tch does not expose. All unsafe code of the workspace is here and where a
//! file is mapped into memory.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::Arc;

use tch::{Device, Tensor};

use crate::error::{NnError, Result};
use crate::layers::{Rows, with_bias};
use crate::quant::Quantized;

/// A C++ `at::Tensor`, behind a pointer.
type Raw = *mut c_void;

unsafe extern "C" {
    fn qapipe_free(text: *mut c_char);
    fn qapipe_message(text: *const c_char) -> *mut c_char;
    fn qapipe_copied(tensor: Raw) -> Raw;
    fn qapipe_keep_pages();
    #[allow(clippy::too_many_arguments)]
    fn qapipe_flash_attention(
        out: *mut Raw,
        query: Raw,
        key: Raw,
        value: Raw,
        query_ends: Raw,
        key_ends: Raw,
        longest_query: i64,
        longest_key: i64,
        dropout: f64,
        scale: f64,
    ) -> *mut c_char;
    fn qapipe_causal_conv(out: *mut Raw, input: Raw, weight: Raw, bias: Raw, positions: Raw) -> *mut c_char;
    fn qapipe_selective_scan(out: *mut Raw, tensors: *const Raw, count: usize, state: Raw, way: i32, chunk: i64) -> *mut c_char;
    fn qapipe_add_norm(out: *mut Raw, sum: Raw, change: Raw, weight: Raw, epsilon: f64) -> *mut c_char;
    fn qapipe_low_rank(
        out: *mut Raw,
        product: Raw,
        seen: Raw,
        weights: *const Raw,
        rows: *const i64,
        scales: *const f64,
        count: usize,
    ) -> *mut c_char;
    fn qapipe_masked(out: *mut Raw, weight: Raw, mask: Raw, scores: *const Raw, starts: *const i64, count: usize) -> *mut c_char;
    fn qapipe_choose(done: *mut bool, pairs: *const RawPair, count: usize, choice: *const Choice, host: Raw, device: Raw) -> *mut c_char;
    fn qapipe_charge(done: *mut bool, pairs: *const RawPair, count: usize, price: f64, host: Raw, device: Raw) -> *mut c_char;
    fn qapipe_restored_product(
        out: *mut Raw,
        states: Raw,
        state: *const c_void,
        restore: unsafe extern "C" fn(*const c_void, *mut Raw) -> *mut c_char,
        release: unsafe extern "C" fn(*const c_void),
    ) -> *mut c_char;
    #[allow(clippy::too_many_arguments)]
    fn qapipe_dequantise_nf4(
        done: *mut bool,
        out: Raw,
        packed: Raw,
        absmax: Raw,
        nested_absmax: Raw,
        map: Raw,
        offset: f32,
        block: i64,
        nested_block: i64,
        codes: *const f32,
    ) -> *mut c_char;
    fn qapipe_dequantise_int8(done: *mut bool, out: Raw, values: Raw, scb: Raw, step: f32) -> *mut c_char;
    fn qapipe_lstm_takes(takes: *mut bool, inflow: Raw, hidden: i64) -> *mut c_char;
    fn qapipe_lstm(out: *mut Raw, inflow: Raw, weight: Raw, ends: Raw) -> *mut c_char;
    fn qapipe_collect_gradients(
        leaves: *const Raw,
        views: *const Raw,
        count: usize,
        flat: Raw,
        add: bool,
        found: *mut usize,
    ) -> *mut c_char;
    #[allow(clippy::too_many_arguments)]
    fn qapipe_fused_adamw(
        parameter: Raw,
        gradient: Raw,
        first: Raw,
        second: Raw,
        step: Raw,
        rate: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        epsilon: f64,
        divisor: Raw,
    ) -> *mut c_char;
    fn qapipe_seed(device: i32, seed: u64) -> *mut c_char;
    fn qapipe_synchronize(device: i32) -> *mut c_char;
    fn qapipe_deterministic(on: bool) -> *mut c_char;
    fn qapipe_memory(device: i32, allocated: *mut i64, peak: *mut i64, reserved: *mut i64) -> *mut c_char;
    fn qapipe_total_memory(device: i32, total: *mut i64) -> *mut c_char;
    fn qapipe_reset_peak(device: i32) -> *mut c_char;
    fn qapipe_give_back();
    fn qapipe_pin(out: *mut Raw, tensor: Raw) -> *mut c_char;
}

/// Attention within each sequence on a CUDA device: query, key and value `[tokens, heads, head_dim]` in half precision. Of queries and
/// of keys: `ends` i32 `[sequences + 1]`, `longest` the tokens of the longest sequence. The scores are multiplied with `scale`, 1/√head_dim
/// where there is none. Gives `[query tokens, heads, head_dim]` with its gradient.
pub(crate) fn flash_attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    ends: &[Tensor; 2],
    longest: [i64; 2],
    dropout: f64,
    scale: Option<f64>,
) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    let ([queries, keys], [longest_query, longest_key], scale) = (ends.each_ref().map(raw), longest, scale.unwrap_or(f64::NAN));
    // SAFETY: the pointers are of live tensors; the function writes `out` only when it reports no error.
    unsafe {
        checked(qapipe_flash_attention(
            &raw mut out,
            raw(query),
            raw(key),
            raw(value),
            queries,
            keys,
            longest_query,
            longest_key,
            dropout,
            scale,
        ))?;
        Ok(owned(out))
    }
}

/// silu of a causal convolution of `input` `[tokens, channels]` with `weight` `[channels, 1, taps]`, within each sequence: `positions` are
/// i64 `[tokens]`. Gives `[tokens, channels]` with its gradient.
pub(crate) fn causal_conv(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, positions: &Tensor) -> Result<Tensor> {
    let (mut out, bias) = (std::ptr::null_mut(), bias.map_or(std::ptr::null_mut(), raw));
    // SAFETY: the pointers are of live tensors, null stands for no bias; the function writes `out` only when it reports no error.
    unsafe {
        checked(qapipe_causal_conv(&raw mut out, raw(input), raw(weight), bias, raw(positions)))?;
        Ok(owned(out))
    }
}

/// A selective scan: its tensors in the order of [`crate::Scan`]. `state` is overwritten. `way` is 0 for the best, 1 for plain operations
/// in chunks of `chunk` tokens (0: as is best), 2 for a kernel. Gives `[tokens, channels]` with its gradient.
pub(crate) fn selective_scan(tensors: [&Tensor; 9], state: Option<&Tensor>, way: i32, chunk: i64) -> Result<Tensor> {
    let tensors = tensors.map(raw);
    let (mut out, state) = (std::ptr::null_mut(), state.map_or(std::ptr::null_mut(), raw));
    // SAFETY: the array holds as many pointers of live tensors as is said, null stands for no state; the state is changed in place, as
    // tensors are everywhere in libtorch; the function writes `out` only when it reports no error.
    unsafe {
        checked(qapipe_selective_scan(&raw mut out, tensors.as_ptr(), tensors.len(), state, way, chunk))?;
        Ok(owned(out))
    }
}

/// Adds `change` to `sum` `[rows, width]`, in place, and gives its norm by the root mean square, in bf16; none, and nothing is changed, where
/// there is no kernel for these or a graph is recorded.
pub(crate) fn add_norm(sum: &Tensor, change: Option<&Tensor>, weight: &Tensor, epsilon: f64) -> Result<Option<Tensor>> {
    let (mut out, change) = (std::ptr::null_mut(), change.map_or(std::ptr::null_mut(), raw));
    // SAFETY: the pointers are of live tensors, null stands for no change; the sum is changed in place, as tensors are everywhere in libtorch;
    // `out` is null or a fresh tensor.
    unsafe {
        checked(qapipe_add_norm(&raw mut out, raw(sum), change, raw(weight), epsilon))?;
        Ok((!out.is_null()).then(|| owned(out)))
    }
}

/// `weight ∘ mask`, `[rows, in]` both, the mask of truth values. Its gradient goes to the weights that stay, and to f32 `scores` `[height, in]` as
/// it would if the mask were they: each with the row where they begin, one below the other.
pub(crate) fn masked(weight: &Tensor, mask: &Tensor, scores: &[(i64, &Tensor)]) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    let (starts, scores): (Vec<i64>, Vec<Raw>) = scores.iter().map(|&(start, scores)| (start, raw(scores))).unzip();
    // SAFETY: the pointers are of live tensors, and both arrays are as long as is said; the function checks that scores lie within the weight,
    // and writes `out` only when it reports no error.
    unsafe {
        checked(qapipe_masked(&raw mut out, raw(weight), raw(mask), scores.as_ptr(), starts.as_ptr(), starts.len()))?;
        Ok(owned(out))
    }
}

/// Rows of one matrix that are read, and as many rows of another of the same width that are changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    /// With the first of these rows.
    pub(crate) from: (&'a Tensor, i64),
    /// With the first of these rows.
    pub(crate) to: (&'a Tensor, i64),
    pub(crate) height: i64,
    /// Pairs of one number share what they get.
    pub(crate) group: i64,
}

/// The same, as C++ sees it.
#[repr(C)]
struct RawPair {
    from: Raw,
    to: Raw,
    from_row: i64,
    to_row: i64,
    height: i64,
    group: i64,
}

impl Pair<'_> {
    fn raw(&self) -> RawPair {
        let Self { from: (from, from_row), to: (to, to_row), height, group } = *self;
        RawPair { from: raw(from), to: raw(to), from_row, to_row, height, group }
    }
}

/// Where many matrices lie, as kernels were told last: on the host, to see whether they still lie there, and on the device. C++ fills it.
#[derive(Debug)]
pub(crate) struct Places {
    host: Tensor,
    device: Tensor,
}

impl Default for Places {
    fn default() -> Self {
        Self { host: Tensor::new(), device: Tensor::new() }
    }
}

/// How the best of some matrices are chosen, as C++ sees it, too.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Choice {
    /// The share that stays.
    pub(crate) keep: f64,
    /// What worth is divided by before its sigmoid, where groups share what stays.
    pub(crate) temperature: f64,
    /// 0: of each matrix; 1: of each, by the sigmoids in its group; 2: of all together.
    pub(crate) budget: i32,
    /// Whether worth is the distance from zero: then 1, else 0.
    pub(crate) magnitude: i32,
}

/// Sets masks, truth values, so that the best of matrices (f32 or bf16) stay and of equal ones the first. Waits for the device only where
/// something lies elsewhere than at the last call. False, and nothing is changed, where there is no kernel for these.
pub(crate) fn choose(pairs: &[Pair<'_>], choice: &Choice, places: &mut Places) -> Result<bool> {
    let mut done = false;
    let pairs: Vec<RawPair> = pairs.iter().map(Pair::raw).collect();
    // SAFETY: the pointers are of live tensors and the array is as long as is said; the function checks kinds, sizes and devices before it reads
    // or writes; the places are changed under their exclusive borrow, and masks in place, as tensors are everywhere in libtorch.
    unsafe { checked(qapipe_choose(&raw mut done, pairs.as_ptr(), pairs.len(), choice, raw(&places.host), raw(&places.device)))? };
    Ok(done)
}

/// Adds `price` / n σ(s) σ(-s) of each of the n scores s of a matrix, f32, to its gradient, f32. False, and nothing is changed, where there is no
/// kernel for these.
pub(crate) fn charge(pairs: &[Pair<'_>], price: f64, places: &mut Places) -> Result<bool> {
    let mut done = false;
    let pairs: Vec<RawPair> = pairs.iter().map(Pair::raw).collect();
    // SAFETY: as in `choose`; gradients are changed in place.
    unsafe { checked(qapipe_charge(&raw mut done, pairs.as_ptr(), pairs.len(), price, raw(&places.host), raw(&places.device)))? };
    Ok(done)
}

/// What adapters of low rank add to a product `[tokens, out]`, on top of it, with its gradient: of each B `[rows, rank]`, the first of its rows
/// and its scale; `seen` `[tokens, ranks]` is what goes into all of them, in their order.
pub(crate) fn low_rank(product: &Tensor, seen: &Tensor, ups: &[(&Tensor, i64, f64)]) -> Result<Tensor> {
    let weights: Vec<Raw> = ups.iter().map(|(weight, ..)| raw(weight)).collect();
    let rows: Vec<i64> = ups.iter().map(|&(_, row, _)| row).collect();
    let scales: Vec<f64> = ups.iter().map(|&(.., scale)| scale).collect();
    let mut out = std::ptr::null_mut();
    // SAFETY: the pointers are of live tensors, and of as many of them, of rows and of scales as are said; the function writes `out` only when it
    // reports no error.
    unsafe {
        checked(qapipe_low_rank(&raw mut out, raw(product), raw(seen), weights.as_ptr(), rows.as_ptr(), scales.as_ptr(), ups.len()))?;
        Ok(owned(out))
    }
}

/// x Wᵀ + b of states `[tokens, in]`, where the rows of W are made anew for the way back rather than kept; `[tokens, out]` with its gradient.
pub(crate) fn restored_product(states: &Tensor, bias: Option<&Tensor>, rows: &Arc<Rows>) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    let state = Arc::into_raw(Arc::clone(rows)).cast::<c_void>();
    // SAFETY: the pointer is of a live tensor; the state is an `Arc` of `Rows` that C++ gives back once through `release_rows`; `Rows` is only
    // read, and libtorch's tensors may be read from any thread; the function writes `out` only when it reports no error.
    let product = unsafe {
        checked(qapipe_restored_product(&raw mut out, raw(states), state, restore_rows, release_rows))?;
        owned(out)
    };
    with_bias(product, bias)
}

// SAFETY: both are only read once they are made, and libtorch's tensors may be read from any thread.
unsafe impl Sync for Quantized {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

/// Makes the matrix of some rows; a message, allocated as C does, where that fails.
///
/// # Safety
/// The state is what [`restored_product`] handed over, and has not been released; `out` may be written.
unsafe extern "C" fn restore_rows(state: *const c_void, out: *mut Raw) -> *mut c_char {
    // SAFETY: by the contract above.
    let rows = unsafe { &*state.cast::<Rows>() };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rows.value())) {
        Ok(Ok(value)) => {
            // SAFETY: by the contract above; C++ frees the copy of the tensor's handle.
            unsafe { *out = qapipe_copied(raw(&value)) };
            std::ptr::null_mut()
        }
        Ok(Err(error)) => message(&error.to_string()),
        Err(_) => message("a matrix could not be restored"),
    }
}

/// Drops what [`restored_product`] handed over.
///
/// # Safety
/// The state is that, and is not used afterwards.
unsafe extern "C" fn release_rows(state: *const c_void) {
    // SAFETY: by the contract above.
    drop(unsafe { Arc::from_raw(state.cast::<Rows>()) });
}

/// A text as C++ hands out messages: allocated by C.
fn message(text: &str) -> *mut c_char {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // SAFETY: the pointer is of a live C string, which is copied.
    unsafe { qapipe_message(text.as_ptr()) }
}

/// The scales of a weight in NormalFloat that are nested: the scale of every `block` codes, what a code stands for (f32 `[256]`), and what is
/// added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NestedScales<'a> {
    pub(crate) absmax: &'a Tensor,
    pub(crate) map: &'a Tensor,
    pub(crate) offset: f32,
    pub(crate) block: i64,
}

/// Fills `out` `[rows, width]` with the numbers of a weight in NormalFloat: `packed` codes, `absmax` of each block (f32; u8 codes where they are
/// nested), what a code stands for. False, and nothing is changed, where there is neither kernel nor loop for these.
pub(crate) fn dequantise_nf4(
    out: &mut Tensor,
    [packed, absmax]: [&Tensor; 2],
    nested: Option<NestedScales<'_>>,
    block: i64,
    codes: &[f32; 16],
) -> Result<bool> {
    let (mut done, null) = (false, std::ptr::null_mut());
    let (nested_absmax, map) = nested.map_or((null, null), |nested| (raw(nested.absmax), raw(nested.map)));
    let (offset, nested_block) = nested.map_or((0.0, 1), |nested| (nested.offset, nested.block));
    let (out, packed, absmax) = (raw(out), raw(packed), raw(absmax));
    // SAFETY: the pointers are of live tensors, null stands for no nested scales, and the array holds sixteen numbers; the function checks
    // kinds, sizes and devices before it reads or writes.
    unsafe {
        checked(qapipe_dequantise_nf4(
            &raw mut done,
            out,
            packed,
            absmax,
            nested_absmax,
            map,
            offset,
            block,
            nested_block,
            codes.as_ptr(),
        ))?;
    }
    Ok(done)
}

/// Fills `out` `[rows, width]` with the numbers of a weight in eight bits, `values * scb * step`. False, and nothing is changed, where there is
/// neither kernel nor loop for these.
pub(crate) fn dequantise_int8(out: &mut Tensor, values: &Tensor, scb: &Tensor, step: f32) -> Result<bool> {
    let mut done = false;
    // SAFETY: the pointers are of live tensors; the function checks kinds, sizes and devices before it reads or writes.
    unsafe { checked(qapipe_dequantise_int8(&raw mut done, raw(out), raw(values), raw(scb), step))? };
    Ok(done)
}

/// Whether [`lstm`] takes an inflow of this kind and on this device for states of a width.
pub(crate) fn lstm_takes(inflow: &Tensor, hidden: i64) -> Result<bool> {
    let mut takes = false;
    // SAFETY: the pointers are of a live tensor and of a live truth value.
    unsafe { checked(qapipe_lstm_takes(&raw mut takes, raw(inflow), hidden))? };
    Ok(takes)
}

/// The recurrence of a bidirectional LSTM over packed sequences, in f32 on the CPU or in bf16 on CUDA: `inflow` `[tokens, 8 * hidden]` is what the input gives
/// to the gates i, f, g, o of the way forward, then of the way back; `weight` `[8 * hidden, hidden]`; `ends` i32 `[sequences + 1]`. Gives
/// `[tokens, 2 * hidden]` with its gradient.
pub(crate) fn lstm(inflow: &Tensor, weight: &Tensor, ends: &Tensor) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: the pointers are of live tensors; the function writes `out` only when it reports no error.
    unsafe {
        checked(qapipe_lstm(&raw mut out, raw(inflow), raw(weight), raw(ends)))?;
        Ok(owned(out))
    }
}

/// Moves the gradients of `leaves` into `views` of `flat` (f32, same shapes) and drops them from the leaves. Tells how many there were.
pub(crate) fn collect_gradients(leaves: &[&Tensor], views: &[Tensor], flat: &Tensor, add: bool) -> Result<usize> {
    let (from, to): (Vec<Raw>, Vec<Raw>) = leaves.iter().zip(views).map(|(leaf, view)| (raw(leaf), raw(view))).unzip();
    let mut found = 0;
    // SAFETY: both arrays hold `from.len()` pointers of live tensors, and the gradients are changed under the exclusive borrow of
    // the parameters that the caller holds.
    unsafe { checked(qapipe_collect_gradients(from.as_ptr(), to.as_ptr(), from.len(), raw(flat), add, &raw mut found))? };
    Ok(found)
}

/// What an AdamW step needs besides its tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) rate: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) decay: f64,
    pub(crate) epsilon: f64,
}

/// One fused AdamW step in place. `tensors`: parameter, gradient, first and second moment (f32, one shape), and the step (f32
/// scalar), already counted. The gradient is divided by `divisor` first.
pub(crate) fn fused_adamw(tensors: [&Tensor; 5], rates: Rates, divisor: Option<&Tensor>) -> Result<()> {
    let [parameter, gradient, first, second, step] = tensors.map(raw);
    let divisor = divisor.map_or(std::ptr::null_mut(), raw);
    let Rates { rate, beta1, beta2, decay, epsilon } = rates;
    // SAFETY: the pointers are of live tensors; null stands for no divisor.
    unsafe { checked(qapipe_fused_adamw(parameter, gradient, first, second, step, rate, beta1, beta2, decay, epsilon, divisor)) }
}

/// Seeds a device's random numbers.
pub(crate) fn seed(device: Device, seed: u64) -> Result<()> {
    // SAFETY: takes numbers only.
    unsafe { checked(qapipe_seed(index(device), seed)) }
}

/// Has the allocator keep the pages of freed tensors.
pub(crate) fn keep_pages() {
    // SAFETY: it takes nothing and only sets two limits of the allocator.
    unsafe { qapipe_keep_pages() }
}

/// Waits until a CUDA device has done what it was given.
pub(crate) fn synchronize(device: Device) -> Result<()> {
    // SAFETY: takes a number only.
    unsafe { checked(qapipe_synchronize(index(device))) }
}

/// Asks libtorch for algorithms that give the same bits every time.
pub(crate) fn deterministic(on: bool) -> Result<()> {
    // SAFETY: takes a truth value only.
    unsafe { checked(qapipe_deterministic(on)) }
}

/// Memory that the caching allocator has of a CUDA device, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) allocated: i64,
    pub(crate) peak: i64,
    pub(crate) reserved: i64,
}

/// What the caching allocator of a CUDA device holds and held.
pub(crate) fn memory(device: Device) -> Result<Memory> {
    let mut memory = Memory::default();
    let Memory { allocated, peak, reserved } = &mut memory;
    // SAFETY: the three pointers are of live numbers.
    unsafe { checked(qapipe_memory(index(device), allocated, peak, reserved))? };
    Ok(memory)
}

/// Bytes of memory that a CUDA device has.
pub(crate) fn total_memory(device: Device) -> Result<i64> {
    let mut total = 0;
    // SAFETY: the pointer is of a live number.
    unsafe { checked(qapipe_total_memory(index(device), &raw mut total))? };
    Ok(total)
}

/// Starts the measuring of the peak anew.
pub(crate) fn reset_peak(device: Device) -> Result<()> {
    // SAFETY: takes a number only.
    unsafe { checked(qapipe_reset_peak(index(device))) }
}

/// Gives free memory back.
pub(crate) fn give_back() {
    // SAFETY: takes nothing, and does not throw.
    unsafe { qapipe_give_back() }
}

/// A copy of a host tensor in page-locked memory.
pub(crate) fn pin(tensor: &Tensor) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: the pointer is of a live tensor; the function writes `out` only when it reports no error.
    unsafe {
        checked(qapipe_pin(&raw mut out, raw(tensor)))?;
        Ok(owned(out))
    }
}

/// The C++ tensor behind a tensor.
fn raw(tensor: &Tensor) -> Raw {
    tensor.as_ptr().cast_mut().cast()
}

/// A tensor out of a pointer that C++ made with `new`.
///
/// # Safety
/// The pointer is a fresh `at::Tensor`, and nobody else owns it.
unsafe fn owned(pointer: Raw) -> Tensor {
    // SAFETY: by the contract above; tch frees it with `delete`.
    unsafe { Tensor::from_ptr(pointer.cast()) }
}

/// The result that a message stands for; frees it.
///
/// # Safety
/// The message is null, or a C string that the C++ half allocated.
unsafe fn checked(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: not null, so it is a C string of ours, and it is freed once, after it was read.
    let error = unsafe { NnError::torch(&CStr::from_ptr(message).to_string_lossy()) };
    // SAFETY: as above.
    unsafe { qapipe_free(message) };
    Err(error)
}

/// The number by which C++ knows a device; negative for the CPU.
fn index(device: Device) -> i32 {
    match device {
        Device::Cuda(index) => i32::try_from(index).unwrap_or(i32::MAX),
        _ => -1,
    }
}
