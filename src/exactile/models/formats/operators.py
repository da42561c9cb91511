"""The operators that the code of a network may name: an allow-list.

All of them compute numbers from numbers, tensors, lists and strings, and check the bounds of what
they are given. None reaches a file, an address, a process, the state of torch, or memory by its
address. A network that names another one is refused; whether one that is named here can be run in
tiles is not a question of this list (`exactile.locality` answers it).

An operator's in-place form, `add_` of `add`, is allowed with it.
"""

from __future__ import annotations

ELEMENTWISE = """
abs absolute acos acosh add addcdiv addcmul angle arccos arccosh arcsin arcsinh arctan arctan2
arctanh asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_not bitwise_or
bitwise_right_shift bitwise_xor ceil celu clamp clamp_max clamp_min clip copysign cos cosh deg2rad
digamma div divide elu eq erf erfc erfinv exp exp2 expm1 fix float_power floor floor_divide fmax
fmin fmod frac frexp gcd ge gelu glu greater greater_equal gt hardshrink hardsigmoid hardswish
hardtanh heaviside hypot i0 igamma igammac isclose isfinite isin isinf isnan isneginf isposinf
isreal lcm ldexp le leaky_relu lerp less less_equal lgamma log log10 log1p log2 log_sigmoid
log_sigmoid_forward logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit lt
masked_fill maximum minimum mish mul multiply mvlgamma nan_to_num ne neg negative nextafter
not_equal polygamma positive pow prelu rad2deg real imag reciprocal relu relu6 remainder round
rrelu rrelu_with_noise rrelu_with_noise_functional rsqrt rsub selu sgn sigmoid sign signbit silu
sin sinc sinh softplus softshrink special_entr special_erf special_erfc special_erfinv
special_exp2 special_expit special_expm1 special_log1p special_logit special_ndtr special_round
special_sinc special_xlog1py special_xlogy sqrt square sub subtract tan tanh threshold true_divide
trunc where xlogy _prelu_kernel __and__ __or__ __xor__ __lshift__ __rshift__ __iand__ __ior__
__ixor__ conj conj_physical _conj _conj_physical resolve_conj resolve_neg view_as_complex
view_as_real complex polar bucketize searchsorted
"""

REDUCTIONS = """
all allclose amax amin aminmax any argmax argmin argsort count_nonzero cummax cummin cumprod
cumsum diff equal histc kthvalue linalg_matrix_norm linalg_norm linalg_vector_norm log_softmax
_log_softmax logcumsumexp logsumexp max mean median min mode msort nanmean nanmedian nanquantile
nansum norm frobenius_norm nuclear_norm nonzero nonzero_numpy prod quantile softmax _softmax sort
special_log_softmax special_logsumexp special_softmax std std_mean sum sum_to_size topk
unique_consecutive unique_dim _unique _unique2 var var_mean bincount is_nonzero _is_all_true
_is_any_true
"""

LAYERS = """
_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d
avg_pool2d avg_pool3d max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices
max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d fractional_max_pool2d
fractional_max_pool3d batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional
_native_batch_norm_legit_no_training _batch_norm_no_update _batch_norm_with_update
_batch_norm_with_update_functional _batch_norm_impl_index native_batch_norm native_group_norm
native_layer_norm group_norm instance_norm layer_norm rms_norm _fused_rms_norm renorm _weight_norm
_weight_norm_interface norm_except_dim cosine_similarity pairwise_distance cdist _cdist_forward
_euclidean_dist conv1d conv2d conv3d conv_depthwise3d conv_tbc conv_transpose1d conv_transpose2d
conv_transpose3d convolution _convolution _convolution_mode thnn_conv2d _slow_conv2d_forward
slow_conv3d slow_conv_dilated2d slow_conv_dilated3d slow_conv_transpose2d slow_conv_transpose3d
mkldnn_convolution linear bilinear embedding embedding_bag one_hot dropout feature_dropout
alpha_dropout feature_alpha_dropout native_dropout _fused_dropout scaled_dot_product_attention
_scaled_dot_product_attention_math _scaled_dot_product_flash_attention_for_cpu
_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention _safe_softmax
_transform_bias_rescale_qkv _native_multi_head_attention _transformer_encoder_layer_fwd lstm
lstm_cell gru gru_cell rnn_tanh rnn_relu rnn_tanh_cell rnn_relu_cell affine_grid_generator
grid_sampler grid_sampler_2d grid_sampler_3d channel_shuffle native_channel_shuffle pixel_shuffle
pixel_unshuffle constant_pad_nd pad _pad_circular _pad_enum reflection_pad1d reflection_pad2d
reflection_pad3d replication_pad1d replication_pad2d replication_pad3d __interpolate __upsample
__upsample_bilinear __upsample_nearest upsample_bicubic2d upsample_bilinear2d upsample_linear1d
upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
_upsample_bicubic2d_aa _upsample_lanczos2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d
_upsample_nearest_exact2d _upsample_nearest_exact3d im2col col2im unfold
"""

LOSSES = """
binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy_loss
ctc_loss _ctc_loss dist hinge_embedding_loss huber_loss kl_div l1_loss margin_ranking_loss
mse_loss multi_margin_loss multilabel_margin_loss multilabel_margin_loss_forward nll_loss
nll_loss2d nll_loss2d_forward nll_loss_forward nll_loss_nd pdist poisson_nll_loss smooth_l1_loss
soft_margin_loss triplet_margin_loss exponential to_padded_tensor nested_to_padded_tensor
_nested_tensor_from_mask _nested_tensor_from_mask_left_aligned
"""
"""What a module has for its training, and leaves in its code."""

MATRICES = """
addbmm addmm addmv addr baddbmm bmm chain_matmul corrcoef cov cross det diag diag_embed diagflat
diagonal dot einsum ger inner inverse kron linalg_cholesky linalg_cross linalg_det linalg_diagonal
linalg_eigh linalg_eigvalsh linalg_inv linalg_inv_ex linalg_matmul linalg_matrix_power
linalg_multi_dot linalg_pinv linalg_qr linalg_slogdet linalg_solve linalg_solve_ex linalg_svd
linalg_svdvals linalg_vecdot logdet matmul matrix_exp matrix_power mm mv outer pinverse slogdet
svd tensordot trace tril triu tril_indices triu_indices vander vdot fft_fft fft_fft2 fft_fftfreq
fft_fftn fft_fftshift fft_hfft fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_irfft
fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftfreq fft_rfftn _fft_c2c _fft_c2r _fft_r2c stft
istft
"""

SHAPES = """
adjoint alias alias_copy argwhere as_strided as_strided_copy as_strided_scatter atleast_1d
atleast_2d atleast_3d block_diag broadcast_tensors broadcast_to broadcast_shapes cartesian_prod
cat chunk clone column_stack combinations concat concatenate contiguous copy cpu cuda data detach
detach_copy diagonal_copy diagonal_scatter dsplit dstack expand expand_as expand_copy fill
fill_diagonal flatten flip fliplr flipud gather hsplit hstack index index_add index_copy
index_fill index_put _index_put_impl _unsafe_index _unsafe_index_put _unsafe_masked_index
index_reduce index_select lift lift_fresh lift_fresh_copy mH mT masked_scatter masked_select
matrix_H meshgrid moveaxis movedim narrow narrow_copy numpy_T pad_sequence permute permute_copy
put ravel repeat repeat_interleave reshape reshape_as _reshape_alias _reshape_copy
_reshape_from_tensor roll rot90 scatter scatter_add scatter_reduce select select_copy
select_scatter slice slice_copy slice_inverse slice_scatter split split_copy split_with_sizes
split_with_sizes_copy squeeze squeeze_copy stack _stack swapaxes swapdims t t_copy take
take_along_dim tensor_split tile transpose transpose_copy type_as unbind unbind_copy unflatten
unfold_copy unsafe_chunk unsafe_split unsafe_split_with_sizes _unsafe_view unsqueeze
unsqueeze_copy view view_as view_copy vsplit vstack to _to_copy _to_cpu
_autocast_to_full_precision _autocast_to_reduced_precision _cast_Byte _cast_Char _cast_Double
_cast_Float _cast_Half _cast_Int _cast_Long _cast_Short arange as_tensor bartlett_window
blackman_window empty empty_like empty_permuted empty_strided eye full full_like hamming_window
hann_window kaiser_window linspace logspace new_empty new_empty_strided new_full new_ones
new_zeros ones ones_like scalar_tensor tensor zero zeros zeros_like _efficientzerotensor bernoulli
multinomial normal rand rand_like random range randint randint_like randn randn_like randperm
uniform
"""

FACTS = """
can_cast dense_dim device dim element_size get_device is_complex is_conj is_contiguous
is_floating_point is_grad_enabled is_inference is_leaf is_neg is_non_overlapping_and_dense
is_same_size is_scripting is_signed is_autocast_enabled is_autocast_cpu_enabled get_autocast_dtype
_get_tracing_state has_torch_function item _local_scalar_dense len numel promote_types result_type
set_grad_enabled size storage_offset stride sym_constrain_range sym_constrain_range_for_size
sym_numel sym_size sym_storage_offset sym_stride sym_is_contiguous _shape_as_tensor
_functional_sym_constrain_range _functional_sym_constrain_range_for_size _functional_assert_async
_functional_assert_scalar _assert_async _assert_scalar _assert_tensor_metadata requires_grad warn
"""
"""What is asked of a tensor, asserted, or set for the code that follows."""

PYTHON = """
__contains__ __derive_index __getitem__ __is__ __isnot__ __not__ __range_length
__round_to_zero_floordiv Bool Complex ComplexImplicit Delete Float FloatImplicit Int IntImplicit
ScalarImplicit _infer_size _list_to_tensor _set_item _size_if_not_equal _tensor_to_list
_unwrap_optional append bin capitalize center chr clear count degrees dict divmod endswith
expandtabs extend fabs factorial find floordiv format gamma get hash hex insert isalnum isalpha
isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper items join
keys list ljust lower lstrip mathremainder modf oct ord partition percentFormat pop popitem
radians remove replace reverse rfind rindex rjust rpartition rsplit rstrip setdefault sorted
splitlines startswith str strip swapcase title update upper values zfill
"""
"""The language's own: numbers, strings, lists and dictionaries."""

OPERATORS = frozenset(
    " ".join((ELEMENTWISE, REDUCTIONS, LAYERS, LOSSES, MATRICES, SHAPES, FACTS, PYTHON)).split()
)

PRIMS = """
Constant ConstantChunk CallFunction CallMethod CreateObject DictConstruct EnumName EnumValue Enter
Exit GetAttr If ListConstruct ListUnpack Loop ModuleContainerIndex NumToTensor RaiseException
SetAttr StringIndex TupleConstruct TupleIndex TupleSlice TupleUnpack Uninitialized abs data device
dtype id index is_cpu is_cuda is_meta is_mkldnn is_mps is_nested is_quantized is_sparse
is_sparse_csr is_vulkan is_xla is_xpu isinstance itemsize layout max min name nbytes rangelist
requires_grad shape tolist type unchecked_cast unchecked_unwrap_optional
"""
"""The `prim` operators of TorchScript: how its language is built. A class that the code defines is
all that `CreateObject` makes, and its own methods are all that `CallMethod` calls."""

PRIMITIVES = frozenset(PRIMS.split())


def is_operator(name: str) -> bool:
    """Return whether `name` is the ATen operator `aten::<name>` of the list, or its in-place form.

    >>> is_operator("add_"), is_operator("save"), is_operator("from_file")
    (True, False, False)
    """
    return name in OPERATORS or (name.endswith("_") and name.removesuffix("_") in OPERATORS)
