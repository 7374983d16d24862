from torch import nn

from models.resnet import resnet18


def test_the_last_layer_has_a_logit_per_class_and_the_rest_is_resnet18() -> None:
    model = resnet18(4)
    assert isinstance(model.fc, nn.Linear)
    assert model.fc.out_features == 4
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_178_564
