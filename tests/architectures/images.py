"""Models of images: convolutions, residual blocks, skips, patches."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.architectures.base import Architecture, numbers

__all__ = ["IMAGES"]


def conv3x3(in_planes: int, out_planes: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_planes, out_planes, kernel_size=3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """The block of torchvision's ResNet: one in-place ReLU, called twice."""

    expansion = 1

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """A ResNet of three stages, written as torchvision's."""

    def __init__(self, layers: tuple[int, ...] = (1, 2, 1), num_classes: int = 5) -> None:
        super().__init__()
        self.inplanes = 4
        self.conv1 = conv3x3(1, self.inplanes)
        self.bn1 = nn.BatchNorm2d(self.inplanes)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._make_layer(4, layers[0])
        self.layer2 = self._make_layer(6, layers[1], stride=2)
        self.layer3 = self._make_layer(8, layers[2], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def _make_layer(self, planes: int, blocks: int, stride: int = 1) -> nn.Sequential:
        downsample = None
        if stride != 1 or self.inplanes != planes:
            downsample = nn.Sequential(
                nn.Conv2d(self.inplanes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )
        layers = [BasicBlock(self.inplanes, planes, stride, downsample)]
        self.inplanes = planes
        layers += [BasicBlock(planes, planes) for _ in range(1, blocks)]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.fc(x)


def sequential(dropout: float = 0.0) -> nn.Sequential:
    """A convolutional network without a class of its own, its activations in place."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4 * 4 * 4, 5),
    )


class DoubleConv(nn.Module):
    """(convolution => BN => ReLU) * 2"""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Up(nn.Module):
    """Upscale, pad to the skip's size, concatenate, convolve."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        x1 = self.up(x1)
        diff_y = x2.size()[2] - x1.size()[2]
        diff_x = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [diff_x // 2, diff_x - diff_x // 2, diff_y // 2, diff_y - diff_y // 2])
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    """Two levels; the images have an odd side, so that the skips are padded."""

    def __init__(self) -> None:
        super().__init__()
        self.inc = DoubleConv(1, 2)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(2, 4))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(4, 8))
        self.up1 = Up(8, 4)
        self.up2 = Up(4, 2)
        self.outc = nn.Conv2d(2, 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.up1(x3, x2)
        x = self.up2(x, x1)
        return self.outc(x)


class DenseBlock(nn.Module):
    """Each layer reads all before it, side by side."""

    def __init__(self, channels: int, growth: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.drop_rate = dropout
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + i * growth), nn.ReLU(), conv3x3(channels + i * growth, growth)
            )
            for i in range(layers)
        )

    def forward(self, init_features: Tensor) -> Tensor:
        features = [init_features]
        for layer in self.layers:
            new = layer(torch.cat(features, 1))
            if self.drop_rate > 0:
                new = F.dropout(new, p=self.drop_rate, training=self.training)
            features.append(new)
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    """Two dense blocks and a transition."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", conv3x3(1, 3))
        self.features.add_module("denseblock1", DenseBlock(3, 2, 3, dropout))
        self.features.add_module("transition1", nn.Sequential(nn.Conv2d(9, 4, 1), nn.AvgPool2d(2)))
        self.features.add_module("denseblock2", DenseBlock(4, 2, 2, dropout))
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        out = F.relu(features, inplace=True)
        out = F.adaptive_avg_pool2d(out, (1, 1))
        out = out.view(out.size(0), -1)
        return self.classifier(out)


class EncoderBlock(nn.Module):
    """A block of torchvision's ViT, with torch's own attention."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, input: Tensor) -> Tensor:
        torch._assert(input.dim() == 3, f"Expected (batch, tokens, dim) got {input.shape}")
        x = self.ln_1(input)
        x, _ = self.attn(x, x, x, need_weights=False)
        x = self.dropout(x)
        x = x + input
        y = self.ln_2(x)
        return x + self.mlp(y)


class ViT(nn.Module):
    """Patches, a class token and learned positions."""

    def __init__(self, dim: int = 8, depth: int = 3, num_classes: int = 5, dropout: float = 0.0) -> None:
        super().__init__()
        self.patch = 4
        self.conv_proj = nn.Conv2d(1, dim, kernel_size=4, stride=4)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embedding = nn.Parameter(torch.empty(1, 5, dim).normal_(std=0.02))
        self.blocks = nn.ModuleList(EncoderBlock(dim, 2, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def _process_input(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        torch._assert(h % self.patch == 0 and w % self.patch == 0, "Wrong image size!")
        x = self.conv_proj(x)
        x = x.reshape(n, -1, (h // self.patch) * (w // self.patch))
        return x.permute(0, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self._process_input(x)
        n = x.shape[0]
        batch_class_token = self.class_token.expand(n, -1, -1)
        x = torch.cat([batch_class_token, x], dim=1)
        x = x + self.pos_embedding
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)[:, 0]
        return self.head(x)


class MixerLayer(nn.Module):
    """Mixes tokens, then channels."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.token_mix = nn.Sequential(nn.Linear(tokens, 6), nn.GELU(), nn.Linear(6, tokens))
        self.channel_mix = nn.Sequential(nn.Linear(dim, 10), nn.GELU(), nn.Linear(10, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token_mix(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channel_mix(self.norm2(x))


class Mixer(nn.Module):
    """MLP-Mixer over 2 x 2 patches."""

    def __init__(self, depth: int = 3, dim: int = 6) -> None:
        super().__init__()
        self.embed = nn.Linear(4, dim)
        self.mixer_layers = nn.Sequential(*[MixerLayer(16, dim) for _ in range(depth)])
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 5))

    def forward(self, img: Tensor) -> Tensor:
        patches = F.unfold(img, kernel_size=2, stride=2).mT
        x = self.mixer_layers(self.embed(patches))
        return self.head(x.mean(dim=1))


class Auto(nn.Module):
    """A dict of features and prediction, as detection and segmentation models return."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ELU(), nn.Conv2d(3, 4, 3))
        self.neck = nn.Conv2d(4, 4, 1)
        self.classifier = nn.Linear(4, 5)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        result: dict[str, Any] = {}
        feats = self.backbone(image)
        result["feats"] = feats
        pooled = F.silu(self.neck(feats)).mean((-2, -1))
        result["logits"] = self.classifier(pooled)
        return result


IMAGES = (
    Architecture(
        name="sequential",
        make=sequential,
        inputs={"input": numbers(1, 8, 8)},
        cuts=(("3",), ("2", "6"), ("1", "2", "3", "4", "5", "6", "7", "8")),
        classes=5,
        dropout=True,
    ),
    Architecture(
        name="resnet",
        make=ResNet,
        inputs={"x": numbers(1, 8, 8)},
        cuts=(
            ("layer2",),
            ("layer1", "layer2", "layer3"),
            ("layer2.0.conv2",),
            ("layer1.0", "layer2.0.downsample", "layer2.1.bn2", "fc"),
        ),
        classes=5,
    ),
    Architecture(
        name="unet",
        make=UNet,
        inputs={"x": numbers(1, 9, 9)},
        cuts=(("down2",), ("down1", "down2", "up1", "up2"), ("up1.conv", "up2.conv.double_conv.3")),
    ),
    Architecture(
        name="densenet",
        make=DenseNet,
        inputs={"x": numbers(1, 8, 8)},
        cuts=(
            ("features.transition1",),
            ("features.denseblock1.layers.1",),
            ("features.denseblock1.layers.2", "features.denseblock2", "features.denseblock2.layers.1"),
        ),
        classes=5,
        dropout=True,
    ),
    Architecture(
        name="vit",
        make=ViT,
        inputs={"x": numbers(1, 8, 8)},
        cuts=(("blocks.1",), ("blocks.0", "blocks.1", "blocks.2"), ("blocks.0.mlp", "blocks.1.attn", "head")),
        classes=5,
        dropout=True,
    ),
    Architecture(
        name="mixer",
        make=Mixer,
        inputs={"img": numbers(1, 8, 8)},
        cuts=(("mixer_layers.1",), ("mixer_layers.1.token_mix", "mixer_layers.2.channel_mix.2")),
        classes=5,
    ),
    Architecture(
        name="dict",
        make=Auto,
        inputs={"image": numbers(1, 8, 8)},
        cuts=(("neck",), ("backbone.2", "classifier")),
        output="logits",
        classes=5,
    ),
)
