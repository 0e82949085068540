"""torch, jax and transformers."""

from kind import Kind, value

_T = "import torch; torch.manual_seed(0); "
_J = "import jax, jax.numpy as jnp; "
_H = "import transformers, torch; torch.manual_seed(0); "


def tensor(name: str, make: str, change: str = "x.add_(1)", look: str = "look(x)", stays: bool = True) -> Kind:
    return Kind("torch: " + name, _T + make, change, look, "torch", stays)


TORCH = [
    tensor("float32", "x = torch.arange(3000.)"),
    tensor("bfloat16", "x = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)"),
    tensor(
        "float16, bool, complex",
        "x = [torch.ones(2, dtype=torch.float16), torch.tensor([True]), torch.tensor([1j])]",
        "x[0].mul_(3)",
        "[look(t) for t in x]",
    ),
    tensor(
        "float8",
        "x = torch.ones(4).to(torch.float8_e4m3fn)",
        "x.copy_(torch.full((4,), 2.).to(x.dtype))",
        "(str(x.dtype), x.float().tolist())",
    ),
    tensor(
        "view and its base",
        "b = torch.arange(3000.); x = [b, b[100:200]]",
        "x[1][0] = -5",
        "(look(x[0]), look(x[1].clone()), x[1].data_ptr() - x[0].data_ptr())",
    ),
    tensor(
        "transposed and expanded",
        "b = torch.arange(6.).reshape(2, 3); x = [b.t(), b[:1].expand(4, 3)]",
        "x[0][0, 0] = 9",
        "[t.tolist() for t in x], [t.stride() for t in x]",
    ),
    tensor(
        "requires grad, with its gradient", "x = torch.ones(3, requires_grad=True); (x * 2).sum().backward()", "x.grad.add_(1)", "look(x)"
    ),
    tensor("attributes", "x = torch.zeros(2); x.tag = ['a']", "x.tag.append('b')"),
    tensor("sparse", "x = torch.eye(3).to_sparse()", "x = (x * 2).coalesce()", stays=False),
    tensor(
        "quantized",
        "import warnings; warnings.simplefilter('ignore'); x = torch.quantize_per_tensor(torch.arange(4.), .1, 0, torch.qint8)",
        "x = torch.quantize_per_tensor(torch.ones(4), .1, 0, torch.qint8)",
        "x.dequantize().tolist()",
        stays=False,
    ),
    tensor("empty and 0-d", "x = [torch.empty(0, 3), torch.tensor(2.5)]", "x[1].fill_(7)", "[look(t) for t in x]"),
    tensor(
        "meta", "x = torch.empty(3, 4, device='meta')", "x = torch.empty(2, device='meta')", "(tuple(x.shape), str(x.device))", stays=False
    ),
    tensor("Parameter", "x = torch.nn.Parameter(torch.ones(3))", "x.data.add_(1)"),
    tensor(
        "module",
        "x = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))",
        "x.train(); x(torch.randn(4, 2))",
        "({k: look(v) for k, v in x.state_dict().items()}, x.training, str(x))",
    ),
    tensor(
        "module of the notebook",
        "\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__(); self.l = torch.nn.Linear(2, 2); self.register_buffer('n', torch.zeros(1))\n    def forward(self, a): self.n += 1; return self.l(a)\nx = Net()",
        "x(torch.ones(1, 2)).sum().backward()",
        "({k: look(v) for k, v in x.state_dict().items()}, look(x.l.weight.grad))",
    ),
    tensor(
        "tied weights",
        "e = torch.nn.Embedding(5, 4); o = torch.nn.Linear(4, 5, bias=False); o.weight = e.weight; x = torch.nn.ModuleList([e, o])",
        "x[1].weight.data[0] = 9",
        "(x[0].weight is x[1].weight, look(x[0].weight))",
    ),
    tensor(
        "optimizer with its model",
        "m = torch.nn.Linear(2, 1); opt = torch.optim.AdamW(m.parameters(), lr=.1); m(torch.ones(1, 2)).sum().backward(); opt.step(); x = [m, opt]",
        "x[0](torch.ones(1, 2)).sum().backward(); x[1].step(); x[1].param_groups[0]['lr'] = .2",
        "([p is q for p, q in zip(x[0].parameters(), x[1].param_groups[0]['params'])], look(x[0].weight), [look(v) for s in x[1].state.values() for v in s.values()], x[1].param_groups[0]['lr'])",
    ),
    tensor(
        "scheduler with its optimizer",
        "m = torch.nn.Linear(1, 1); opt = torch.optim.SGD(m.parameters(), lr=.1, momentum=.9); x = [opt, torch.optim.lr_scheduler.StepLR(opt, 1)]",
        "x[0].step(); x[1].step()",
        "(x[1].optimizer is x[0], x[0].param_groups[0]['lr'], x[1].last_epoch)",
    ),
    tensor("state_dict", "x = torch.nn.LSTM(2, 2).state_dict()", "x['weight_ih_l0'].add_(1)", "{k: look(v) for k, v in x.items()}"),
    tensor(
        "dataset, loader and distribution",
        "d = torch.utils.data.TensorDataset(torch.arange(4.)); x = [d, torch.utils.data.DataLoader(d, 2), torch.distributions.Normal(0., 1.)]",
        "x.append(1)",
        "[len(x[0]), [b[0].tolist() for b in x[1]], str(x[2]), len(x)]",
    ),
    tensor("Generator", "x = torch.Generator().manual_seed(3)", "torch.rand(2, generator=x)", "x.get_state().sum().item()", stays=False),
    value(
        "torch: dtype, device, Size",
        _T + "x = (torch.bfloat16, torch.device('cuda', 1), torch.Size([2, 3]), torch.strided)",
        "x = x[::-1]",
        "[repr(v) for v in x], x[0] in (torch.bfloat16, torch.strided)",
        "torch",
    ),
    tensor(
        "result within a graph, whose graph stays",
        "x = torch.ones(2, requires_grad=True) * 2",
        "x = x * 2",
        "(x.tolist(), x.requires_grad)",
        stays=False,
    ),
]

JAX = [
    value("jax: float32", _J + "x = jnp.arange(3000.)", "x = x.at[0].set(5)", needs="jax"),
    value("jax: bfloat16 and float8", _J + "x = jnp.arange(4, dtype=jnp.bfloat16)", "x = x.astype(jnp.float8_e4m3fn)", needs="jax"),
    value("jax: scalar, weak type", _J + "x = jnp.asarray(1.5)", "x = x + 1", needs="jax"),
    value("jax: key", _J + "x = jax.random.key(3)", "x = jax.random.split(x)[0]", "jax.random.key_data(x).tolist()", "jax"),
    Kind(
        "jax: tree of parameters",
        _J + "x = {'w': jnp.ones((3, 3)), 'b': [jnp.zeros(3), jnp.array([True, False])]}",
        "x['w'] = x['w'] * 2; x['b'].append(jnp.arange(2))",
        "str(jax.tree.map(lambda a: a.tolist(), x))",
        "jax",
    ),
    value(
        "jax: jitted function's result",
        _J + "f = jax.jit(lambda a: a * 2); x = f(jnp.arange(3))",
        "x = jax.grad(lambda a: (a ** 2).sum())(jnp.arange(3.))",
        needs="jax",
    ),
    value(
        "jax: PartitionSpec and ShapeDtypeStruct",
        _J + "x = [jax.sharding.PartitionSpec('a', None), jax.ShapeDtypeStruct((2, 3), jnp.float32)]",
        "x = x[::-1]",
        "[repr(v) for v in x]",
        "jax",
    ),
]

_CONFIG = "c = transformers.BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, max_position_embeddings=16); "
_WORDS = "import tokenizers; w = tokenizers.Tokenizer(tokenizers.models.WordLevel({'[UNK]': 0, 'a': 1, 'b': 2}, unk_token='[UNK]')); w.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace(); "

TRANSFORMERS = [
    Kind(
        "transformers: model",
        _H + _CONFIG + "x = transformers.BertModel(c).eval()",
        "next(x.parameters()).data.add_(1)",
        "(look(x(torch.tensor([[1, 2, 3]])).last_hidden_state.detach().round(decimals=4)), x.config.to_dict()['hidden_size'])",
        "transformers",
    ),
    Kind(
        "transformers: model with tied weights",
        _H
        + "x = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=8)).eval()",
        "x.transformer.wte.weight.data[0] = 3",
        "(x.lm_head.weight is x.transformer.wte.weight, look(x(torch.tensor([[1, 2]])).logits.detach().round(decimals=4)))",
        "transformers",
    ),
    Kind(
        "transformers: tokenizer",
        _H + _WORDS + "x = transformers.PreTrainedTokenizerFast(tokenizer_object=w, unk_token='[UNK]')",
        "x.add_tokens(['zz'])",
        "(x.encode('a b zz c'), len(x))",
        "transformers",
    ),
    Kind("transformers: config", _H + _CONFIG + "x = c", "x.hidden_size = 16", "str(x.to_dict())", "transformers"),
    Kind(
        "transformers: model output",
        _H + _CONFIG + "x = transformers.BertModel(c).eval()(torch.tensor([[1, 2]])); x = type(x)(**{k: v.detach() for k, v in x.items()})",
        "x['pooler_output'] = x['pooler_output'] * 2",
        "{k: look(v) for k, v in x.items()}",
        "transformers",
    ),
]

KINDS = [*TORCH, *JAX, *TRANSFORMERS]
