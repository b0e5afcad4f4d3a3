"""Every loss and every metric of agnoreg's own: other tests register some, too."""

import agnoreg

#: By the names that they are registered with.
LOSSES = {name: cls for name, cls in agnoreg.registered_losses().items() if cls.__module__.startswith("agnoreg.")}
#: By their names in `agnoreg.loss`: the classes of which a higher value is better, too.
METRICS = {
    name: getattr(getattr(agnoreg.loss, module), name)
    for module in ("image", "label", "deform")
    for name in getattr(agnoreg.loss, module).__all__
    if isinstance(getattr(getattr(agnoreg.loss, module), name), type)
}
